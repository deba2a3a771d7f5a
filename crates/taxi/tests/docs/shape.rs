//! Whether what a command prints is what its page shows.
//!
//! What is another one each time is left out of the comparison: ids, times, addresses, tokens. An
//! ellipsis on the page stands for anything; on a line of its own for any number of lines.

/// What is wrong with what was printed.
pub(crate) fn fault(shown: &str, printed: &str) -> Option<String> {
    let shown: Vec<String> = shown.trim_end().lines().map(masked).collect();
    let printed: Vec<String> = printed.trim_end().lines().map(masked).collect();
    if lines_match(&shown, &printed) {
        return None;
    }
    let differs = shown.iter().zip(&printed).find(|(one, other)| !line_matches(one, other));
    let first = differs.map_or_else(String::new, |(one, other)| format!("\n-{one}\n+{other}"));
    Some(format!(
        "the page does not show what is printed:{first}\nIn full:\n{}",
        printed.join("\n")
    ))
}

const ANYTHING: &str = "…";

fn lines_match(shown: &[String], printed: &[String]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((one, rest)), _) if one.trim() == ANYTHING => {
            (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..]))
        }
        (Some((one, rest)), Some((other, others))) => {
            line_matches(one, other) && lines_match(rest, others)
        }
        _ => false,
    }
}

fn line_matches(shown: &str, printed: &str) -> bool {
    let Some((head, tail)) = shown.split_once(ANYTHING) else { return shown == printed };
    let Some(rest) = printed.strip_prefix(head) else { return false };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.into_iter().any(|at| line_matches(tail, &rest[at..]))
}

/// A line without what is another one each time, and with one space for several: columns are as wide
/// as their widest word.
fn masked(line: &str) -> String {
    let inside = |letter: char| letter.is_ascii_alphanumeric() || "-_:.+".contains(letter);
    let mut masked = String::new();
    for piece in line.split_inclusive(|letter: char| !inside(letter)) {
        let word = piece.trim_end_matches(|letter: char| !inside(letter));
        let rest = &piece[word.len()..];
        masked.push_str(kind(word).unwrap_or(word));
        if rest != " " || !masked.ends_with(' ') {
            masked.push_str(rest);
        }
    }
    masked.trim_end().to_owned()
}

/// What a word stands for that is made up each time.
fn kind(word: &str) -> Option<&'static str> {
    let local = word.strip_prefix("127.0.0.1:").is_some_and(|port| port.parse::<u16>().is_ok());
    let time = word.len() > 18 && word.ends_with('Z') && word.as_bytes().get(10) == Some(&b'T');
    let seconds = word.strip_suffix('s').is_some_and(|number| number.parse::<f64>().is_ok());
    match word {
        _ if kernel::Uuid::try_parse(word).is_ok() && word.contains('-') => Some("<id>"),
        _ if local => Some("<address>"),
        _ if time => Some("<time>"),
        _ if seconds => Some("<seconds>"),
        _ if word.len() > 60 => Some("<token>"),
        _ => None,
    }
}

#[test]
fn shapes_are_compared() {
    let printed =
        "ride 01a2089d-6421-7312-915b-917cae831817 at 2026-11-23T13:34:22.242846Z\ntwo\nthree";
    assert_eq!(
        fault(
            "ride 01a2089d-642b-731c-aa35-390b1d1c7924 at 2026-11-23T13:34:22Z\n…\nthree",
            printed
        ),
        None
    );
    assert_eq!(fault("ride … at …\n…", printed), None, "the ellipsis");
    assert!(fault("ride …\ntwo", printed).is_some(), "a line more");
    assert!(fault("ride …\ntwo\nfour", printed).is_some(), "another line");
    assert_eq!(fault("A   B", "A B"), None, "columns");
    assert!(fault("\"a\": 1", "\"a\": 2").is_some(), "a value");
}
