//! Changes as people read them in a diff, without line numbers: what is there already says where.
//!
//! ```text
//! --- crates/driving/src/fare.rs
//!  pub struct Tariff {
//! +    /// What is new.
//! +    pub night: Night,
//! @@
//! -a line that goes
//! +a line that comes
//! ```

/// One change of one file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hunk {
    /// The lines that have to be there, once.
    old: String,
    /// What becomes of them.
    new: String,
}

impl Hunk {
    /// Reads lines that begin with a space, `-` or `+`.
    fn parse(lines: &str) -> Result<Hunk, String> {
        let (mut old, mut new) = (String::new(), String::new());
        for line in lines.lines() {
            let (sign, text) = line.split_at_checked(1).unwrap_or((" ", ""));
            let text = format!("{text}\n");
            match sign {
                " " => {
                    old += &text;
                    new += &text;
                }
                "-" => old += &text,
                "+" => new += &text,
                _ => return Err(format!("`{line}` does not begin with a space, - or +")),
            }
        }
        Ok(Hunk { old, new })
    }

    /// The text with the change made.
    pub(crate) fn apply(&self, text: &str) -> Result<String, String> {
        // Whole lines only: each begins after a line break.
        let text = format!("\n{text}");
        let old = format!("\n{}", self.old);
        let starts_there = |at: &usize| text[*at..].starts_with(&old);
        match text.match_indices('\n').map(|(at, _)| at).filter(starts_there).count() {
            1 => Ok(text.replacen(&old, &format!("\n{}", self.new), 1).split_off(1)),
            count => Err(format!("this is there {count} times, not once:\n{}", self.old)),
        }
    }
}

/// Reads the hunks of one file, which `@@` separates.
pub(crate) fn hunks(text: &str) -> Result<Vec<Hunk>, String> {
    text.split("@@\n").map(Hunk::parse).collect()
}

/// Reads the hunks of several files, each behind a line with its path.
pub(crate) fn files(text: &str) -> Result<Vec<(&str, Vec<Hunk>)>, String> {
    let file = |part| {
        let (path, changes) = str::split_once(part, '\n').ok_or("a path without a change")?;
        Ok((path, hunks(changes)?))
    };
    text.split("--- ").skip(1).map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_and_go_where_the_others_are() {
        let [hunk, last] = &hunks(" a\n-b\n+x\n+y\n c\n@@\n d\n+z\n").expect("hunks")[..] else {
            panic!("two hunks")
        };
        let text = hunk.apply("a\nb\nc\nd\n").and_then(|text| last.apply(&text));
        assert_eq!(text.as_deref(), Ok("a\nx\ny\nc\nd\nz\n"));
        let files = files("--- one\n a\n+b\n--- two\n c\n").expect("files");
        assert_eq!(files.iter().map(|(path, _)| *path).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn what_is_not_there_once_is_told() {
        let hunk = &hunks(" a\n+b\n").expect("a hunk")[0];
        assert!(hunk.apply("b\n").expect_err("gone").contains("0 times"));
        assert!(hunk.apply("a\na\n").expect_err("ambiguous").contains("2 times"));
        assert!(hunk.apply(" a\n").is_err(), "as deep as it was");
        assert!(hunks("a\n").is_err());
    }
}
