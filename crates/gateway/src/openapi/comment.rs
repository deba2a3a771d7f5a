//! The comments of the protos, as text for people.

use prost_reflect::FileDescriptor;

/// What a comment says right before an example of a field's value.
const EXAMPLE: &str = "or example `";

/// The comment before a declaration; empty when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comment {
    paragraphs: Vec<String>,
}

impl Comment {
    /// The comment of what is at `path` in a file.
    pub fn of(file: &FileDescriptor, path: &[i32]) -> Comment {
        let source = file.file_descriptor_proto().source_code_info.as_ref();
        let mut locations = source.into_iter().flat_map(|source| &source.location);
        let location = locations.find(|location| location.path == path);
        Comment::read(location.map_or("", |location| location.leading_comments()))
    }

    /// Paragraphs are what blank lines separate. Within one, a line ends where the source had room,
    /// which means nothing, unless the next one begins an item of a list.
    fn read(source: &str) -> Comment {
        let mut paragraphs = vec![String::new()];
        for line in source.lines().map(str::trim) {
            let Some(paragraph) = paragraphs.last_mut() else { break };
            match line {
                "" if paragraph.is_empty() => {}
                "" => paragraphs.push(String::new()),
                line => {
                    let item = line.starts_with("- ") || line.starts_with("* ");
                    if !paragraph.is_empty() {
                        paragraph.push(if item { '\n' } else { ' ' });
                    }
                    paragraph.push_str(line);
                }
            }
        }
        paragraphs.retain(|paragraph| !paragraph.is_empty());
        Comment { paragraphs }
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.paragraphs.join("\n\n")
    }

    /// Its first sentence, without the full stop.
    pub fn summary(&self) -> &str {
        let first = self.paragraphs.first().map_or("", String::as_str);
        sentence(first).trim_end_matches('.')
    }

    /// What follows the first sentence.
    pub fn details(&self) -> String {
        let text = self.text();
        let first = self.paragraphs.first().map_or("", String::as_str);
        text.get(sentence(first).len()..).unwrap_or_default().trim().to_owned()
    }

    /// The value that the comment gives as an example: "for example `5400s`".
    pub(super) fn example(&self) -> Option<&str> {
        let mut texts = self.paragraphs.iter().filter_map(|text| text.split_once(EXAMPLE));
        texts.next()?.1.split_once('`').map(|(example, _)| example)
    }

    /// Whether it speaks of some metadata, a field or the like by name.
    pub(super) fn names(&self, name: &str) -> bool {
        let quoted = format!("`{name}`");
        self.paragraphs.iter().any(|paragraph| paragraph.contains(&quoted))
    }

    /// What follows a marker, to the end of the sentence.
    pub fn sentence_after(&self, marker: &str) -> Option<&str> {
        let mut found = self.paragraphs.iter().filter_map(|text| text.split_once(marker));
        found.next().map(|(_, after)| sentence(after))
    }
}

/// A text up to the end of its first sentence.
fn sentence(text: &str) -> &str {
    match text.find(". ") {
        Some(stop) => &text[..=stop],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_paragraphs_kept() {
        let comment = Comment::read(" Does a\n thing. It is\n quick.\n\n Kinds:\n - one\n - two\n");
        assert_eq!(comment.text(), "Does a thing. It is quick.\n\nKinds:\n- one\n- two");
        assert_eq!(comment.summary(), "Does a thing");
        assert_eq!(comment.details(), "It is quick.\n\nKinds:\n- one\n- two");
        let short = Comment::read(" Does a thing.\n");
        assert_eq!((short.summary(), short.details().as_str()), ("Does a thing", ""));
        assert_eq!(Comment::read(" \n"), Comment::default());
    }

    #[test]
    fn a_comment_is_searched_for_what_it_says() {
        let comment = Comment::read(" A name, for example `a/b`.\n\n Errors: ABORTED X. Then `c`.");
        assert_eq!(comment.example(), Some("a/b"));
        assert_eq!(comment.sentence_after("Errors:"), Some(" ABORTED X."));
        assert!(comment.names("c") && !comment.names("a"));
        assert_eq!(Comment::default().example(), None);
    }
}
