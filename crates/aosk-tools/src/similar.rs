//! Finding what someone meant.

/// The candidate that `word` is most likely a slip of: at most a third of its letters differ.
pub fn similar<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// `word` in a message, cut where it is long.
pub fn shown(word: &str) -> String {
    const MOST: usize = 60;
    match word.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &word[..end]),
        None => format!("{word:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_another_word_is_not() {
        let names = ["now", "read_file", "write_file"];
        assert_eq!(similar("raed_file", names), Some("read_file"));
        assert_eq!(similar("wirte_fiel", names), Some("write_file"));
        assert_eq!(similar("nwo", names), Some("now"));
        assert_eq!(similar("shell", names), None);
        assert_eq!(similar("", names), None);
    }

    #[test]
    fn a_word_is_shown_whole_up_to_sixty_characters() {
        assert_eq!(shown(&"é".repeat(60)), format!("{:?}", "é".repeat(60)));
        assert_eq!(shown(&"é".repeat(61)), format!("{:?}…", "é".repeat(60)));
    }
}
