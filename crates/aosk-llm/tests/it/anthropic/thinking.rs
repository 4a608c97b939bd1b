//! Thinking: what comes in, what is kept, and to whom it goes back.

use aosk_abi::{Role, StopReason};
use aosk_llm::{Models, Options, Remote};
use aosk_ports::{Device, Message, Part};

use super::{begun, device, ended, grown, opaque, reply_of, text_block};
use crate::server::{Server, answer, json};
use crate::support::{call, question, said, text};

fn body(device: &Remote, messages: impl IntoIterator<Item = Message>) -> String {
    let mut request = question();
    request.messages.extend(messages);
    let rendered = device.render(&request).expect("a form");
    String::from_utf8(rendered.body.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn thinking_and_its_signature_are_kept_to_the_letter() {
    let mut all = vec![
        begun(0, r#"{"type":"thinking","thinking":"","signature":""}"#),
        grown(0, r#"{"type":"thinking_delta","thinking":"17 * 23, \"hm\"…\n"}"#),
        grown(0, r#"{"type":"thinking_delta","thinking":"世 = 391"}"#),
        grown(0, r#"{"type":"signature_delta","signature":"EqQBCgIYAhIM+/=="}"#),
        ended(0),
        // Whole, and in the words that it came in.
        begun(1, r#"{"type":"redacted_thinking", "data":"EmwKAhgBEgy\u002F3va3"}"#),
        ended(1),
        // Thinking whose text is not shown: a signature alone.
        begun(2, r#"{"type":"thinking","thinking":"","signature":""}"#),
        grown(2, r#"{"type":"signature_delta","signature":"AAAA"}"#),
        ended(2),
    ];
    all.extend(text_block(3, "391"));
    let reply = reply_of(&all, "end_turn").await;
    let blocks = [
        r#"{"type":"thinking","thinking":"17 * 23, \"hm\"…\n世 = 391","signature":"EqQBCgIYAhIM+/=="}"#,
        r#"{"type":"redacted_thinking", "data":"EmwKAhgBEgy\u002F3va3"}"#,
        r#"{"type":"thinking","thinking":"","signature":"AAAA"}"#,
    ];
    assert_eq!(
        reply.parts,
        [
            opaque("anthropic/thinking", blocks[0]),
            opaque("anthropic/redacted_thinking", blocks[1]),
            opaque("anthropic/thinking", blocks[2]),
            Part::Text("391".into()),
        ]
    );
    // They go back letter for letter, in their places.
    let server = device("http://127.0.0.1:9").await;
    let body = body(&server, [said(reply.parts)]);
    let back = format!(r#""content":[{},{},{},{{"type":"text""#, blocks[0], blocks[1], blocks[2]);
    assert!(body.contains(&back), "{body}");
}

const SIGNED: &str = r#"{"type":"thinking","thinking":"hm","signature":"S"}"#;
const UNSIGNED: &str = r#"{"type":"thinking","thinking":"hm","signature":""}"#;

#[tokio::test]
async fn a_thought_that_was_cut_off_does_not_poison_the_conversation() {
    let device = device("http://127.0.0.1:9").await;
    let thinking = |index| {
        let delta = r#"{"type":"thinking_delta","thinking":"17 * 20 is"}"#;
        let block = r#"{"type":"thinking","thinking":"","signature":""}"#;
        [begun(index, block), grown(index, delta), ended(index)]
    };
    let before = body(&device, [text(Role::User, "Go on.")]);
    let reply = reply_of(&thinking(0), "max_tokens").await;
    assert_eq!((reply.stop, reply.parts.as_slice()), (StopReason::Length, &[][..]));
    let raw = String::from_utf8(reply.raw.expect("a wire").to_vec()).expect("UTF-8");
    assert!(raw.contains("17 * 20 is"), "{raw}");
    assert_eq!(body(&device, [said(reply.parts), text(Role::User, "Go on.")]), before);

    let mut all = text_block(0, "Let me see.");
    all.extend(thinking(1));
    let reply = reply_of(&all, "max_tokens").await;
    assert_eq!(reply.parts, [Part::Text("Let me see.".into())]);
}

#[tokio::test]
async fn no_message_ends_with_a_thought() {
    let device = device("http://127.0.0.1:9").await;
    let hidden = r#"{"type":"redacted_thinking","data":"x"}"#;
    let all = [begun(0, SIGNED), ended(0), begun(1, hidden), ended(1)];
    let reply = reply_of(&all, "end_turn").await;
    assert_eq!((reply.stop, reply.parts.as_slice()), (StopReason::Stop, &[][..]));

    // Nor where the text behind it was evicted, or says nothing.
    let thoughts = || {
        vec![opaque("anthropic/thinking", SIGNED), opaque("anthropic/redacted_thinking", hidden)]
    };
    let next = || text(Role::User, "And?");
    let without = body(&device, [next()]);
    let with = |part: Part| [thoughts(), vec![part]].concat();
    assert_eq!(body(&device, [said(thoughts()), next()]), without);
    assert_eq!(body(&device, [said(with(Part::Text(" \n".into()))), next()]), without);
    let kept = body(&device, [said(with(call("a", "f", "{}"))), next()]);
    assert!(kept.contains(&format!(r#"[{SIGNED},{hidden},{{"type":"tool_use""#)), "{kept}");
    let text_first = [vec![Part::Text("Well".into())], thoughts()].concat();
    let cut = body(&device, [said(text_first), next()]);
    assert!(cut.contains("Well") && !cut.contains("thinking"), "{cut}");
}

#[tokio::test]
async fn thoughts_without_a_signature_go_only_to_whom_takes_them() {
    let messages = |thought: &str| {
        [
            said([opaque("anthropic/thinking", thought), Part::Text("Well".into())]),
            text(Role::User, "And?"),
        ]
    };
    let provider = device("http://127.0.0.1:9").await;
    let unsigned = [UNSIGNED, r#"{"type":"thinking","thinking":"hm"}"#];
    for thought in unsigned {
        let sent = body(&provider, messages(thought));
        assert!(sent.contains("Well") && !sent.contains("thinking"), "{sent}");
    }
    assert!(body(&provider, messages(SIGNED)).contains(SIGNED));

    // A server on this machine thinks without signing, and goes on with what it thought.
    let served = json("200 OK", r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#);
    let server = Server::start(vec![served, answer("404 Not Found", &[], "")]).await;
    let base = server.base();
    let env = |name: &str| (name == "ANTHROPIC_BASE_URL").then(|| base.clone());
    let (spec, endpoint) = Models::embedded().select("local-anthropic", &env).expect("here");
    let local = Remote::connect(spec, endpoint, Options::default()).await.expect("a device");
    for thought in unsigned.into_iter().chain([SIGNED]) {
        assert!(body(&local, messages(thought)).contains(thought));
    }
}
