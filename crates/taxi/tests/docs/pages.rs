//! The pages: all Markdown that git knows or would take, and what is in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::marker::Marker;

/// One page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// From the root of the repository.
    pub(crate) path: PathBuf,
    /// Its headings, with their level.
    pub(crate) headings: Vec<(usize, String)>,
    /// Where its links and pictures lead, with their line.
    pub(crate) links: Vec<(usize, String)>,
    /// Its fenced blocks.
    pub(crate) blocks: Vec<Block>,
}

/// A fenced block.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// The line of its fence.
    pub(crate) line: usize,
    /// The word behind its fence.
    pub(crate) language: String,
    /// What is in it.
    pub(crate) text: String,
    /// What the comment right above it says.
    pub(crate) marker: Option<Marker>,
    /// Whether nothing stands between it and the block before.
    pub(crate) follows: bool,
}

impl Block {
    /// Whether it is a promise that somebody runs.
    pub(crate) fn is_shell(&self) -> bool {
        matches!(self.language.as_str(), "sh" | "bash" | "shell" | "console")
    }

    /// Whether it can be what a command prints.
    pub(crate) fn is_output(&self) -> bool {
        matches!(self.language.as_str(), "text" | "json" | "ndjson")
    }
}

impl Page {
    /// The names by which its headings are linked to, as GitHub and mdBook make them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for (_, heading) in &self.headings {
            let plain = anchor(heading);
            let mut name = plain.clone();
            for number in 1.. {
                if !anchors.contains(&name) {
                    break;
                }
                name = format!("{plain}-{number}");
            }
            anchors.push(name);
        }
        anchors
    }

    /// Where something of it is, for a person.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn read(path: PathBuf) -> Page {
        let text = std::fs::read_to_string(root().join(&path)).expect("a page");
        Page { path, ..Page::parse(&text) }
    }

    fn parse(text: &str) -> Page {
        let mut page = Page::default();
        let mut heading: Option<(usize, String)> = None;
        let mut block: Option<Block> = None;
        // What stands directly above.
        let (mut marker, mut behind_block) = (None, false);
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            let line = || text[..range.start].matches('\n').count() + 1;
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    let language = info.split([' ', ',']).next().unwrap_or_default().to_owned();
                    let marker = marker.take();
                    let follows = behind_block && marker.is_none();
                    let text = String::new();
                    block = Some(Block { line: line(), language, text, marker, follows });
                }
                Event::End(TagEnd::CodeBlock) => {
                    page.blocks.extend(block.take());
                    behind_block = true;
                }
                Event::Start(Tag::Heading { level, .. }) => {
                    heading = Some((level as usize, String::new()));
                    (marker, behind_block) = (None, false);
                }
                Event::End(TagEnd::Heading(_)) => page.headings.extend(heading.take()),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line(), dest_url.into_string()));
                }
                Event::Html(html) => marker = Marker::parse(&html).or(marker),
                Event::Start(Tag::HtmlBlock) | Event::End(_) => {}
                Event::Start(_) => (marker, behind_block) = (None, false),
                Event::Text(words) | Event::Code(words) => {
                    let into = block.as_mut().map(|block| &mut block.text);
                    let into = into.or(heading.as_mut().map(|(_, heading)| heading));
                    if let Some(into) = into {
                        into.push_str(&words);
                    }
                }
                _ => {}
            }
        }
        page
    }
}

/// Parts of pages that a generator puts together: their links are those of the whole.
const PARTS: &str = "crates/taxi/src/reference";

/// All pages.
pub(crate) fn all() -> Vec<Page> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"];
    let listed = Command::new("git").args(arguments).current_dir(root()).output().expect("git");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("names in UTF-8");
    let mut paths: Vec<_> = listed.split_terminator('\0').map(PathBuf::from).collect();
    // What is removed and not yet committed is still in git's list.
    paths.retain(|path| root().join(path).exists() && !path.starts_with(PARTS));
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

/// The page at this path.
pub(crate) fn page(path: &str) -> Page {
    Page::read(PathBuf::from(path))
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("a workspace around the crate")
}

fn anchor(heading: &str) -> String {
    let kept = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | ' ');
    heading
        .to_lowercase()
        .chars()
        .filter(|letter| kept(*letter))
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn a_page_is_read() {
    let page = Page::parse(
        "# One\n\nA [link](a.md#b).\n\n<!-- not run: far away -->\n```sh\nls\n```\n\n```text\na\n```\n\n\
         ## `two`, and more\n\n```console\n$ cat\n```\n\n## One\n",
    );
    assert_eq!(page.anchors(), ["one", "two-and-more", "one-1"]);
    assert_eq!(page.links, [(3, "a.md#b".to_owned())]);
    let [ls, printed, cat] = &page.blocks[..] else { panic!("{:?}", page.blocks) };
    assert_eq!(ls.marker, Some(Marker::NotRun("far away".to_owned())));
    assert!(ls.is_shell() && ls.text == "ls\n" && ls.line == 6, "{ls:?}");
    assert!(printed.is_output() && printed.follows, "{printed:?}");
    assert!(cat.marker.is_none() && !cat.follows, "{cat:?}");
}
