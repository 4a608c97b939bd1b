//! Text in a column that cannot hold U+0000.
//!
//! PostgreSQL's `text` takes every character but one. A name with that one is stored with U+001A
//! ("substitute") and a digit in its place, and U+001A itself likewise, so that every text comes
//! back as it was and all usual ones stand as they are.

use std::borrow::Cow;

const MARK: char = '\u{1a}';

/// The text as it is stored.
pub(super) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(MARK, "\u{1a}1").replace('\0', "\u{1a}0"))
}

/// The text that was stored.
pub(super) fn restored(text: String) -> String {
    if !text.contains(MARK) {
        return text;
    }
    text.replace("\u{1a}0", "\0").replace("\u{1a}1", "\u{1a}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_comes_back_and_no_nul_is_stored(text in "[\\x00\\x1a01a]{0,9}|\\PC{0,9}") {
            let stored = stored(&text).into_owned();
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(restored(stored), text);
        }
    }

    #[test]
    fn usual_text_stands_as_it_is() {
        assert!(matches!(stored("代理 agent\n"), Cow::Borrowed(_)));
    }
}
