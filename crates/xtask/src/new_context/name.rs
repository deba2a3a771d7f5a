//! What a context may be called.

use std::fs;
use std::path::Path;

use crate::read;

/// The longest name: it is part of names that Kubernetes and Postgres give.
const LONGEST: usize = 20;
/// Words of Rust, proto and SQL that a name would be confused with.
const KEYWORDS: &str = "abstract all and any array as async auto await become bool box break bytes \
    case cast char check column const constraint continue crate create default desc distinct do \
    double dyn else end enum except extend extends extern false fetch final fixed float fn for from \
    gen grant group has having id if impl import in int into is join let like limit list loop \
    macro map match mod move mut new not null offset on only option optional or order override \
    package placing primary priv proto pub ref references repeated reserved result return returning \
    rpc select self service some static str stream string struct super syntax table test then to \
    trait true try type typeof union unique unsafe unsized use user using vec virtual when where \
    while with yield";
/// Words that everything here speaks of already.
const WORDS: &str = "actor admin aggregate answer body call cause client clock config context customer \
    database db domain draft driver event failure fare filter finished get grpc host house \
    issuer kind listen location metadata migration money name nats note operator outcome \
    page place policies policy provider query recorded refused rejection request response \
    ride role service status store tasks time timestamp token upstream uuid wire wish";

/// A name in the forms in which it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ContextName {
    /// As in `rating`.
    one: String,
    /// As in `ratings`.
    many: String,
}

impl ContextName {
    /// One English noun that nobody has taken in the workspace in this folder.
    pub(crate) fn parse(name: &str, root: &Path) -> Result<ContextName, String> {
        let letters = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
        if !letters || name.len() > LONGEST {
            return Err(format!(
                "{name:?} will not do: it becomes a crate, a subject, a Kubernetes Service and a \
                 variable of the environment, so it is one word of at most {LONGEST} letters a..z"
            ));
        }
        let one_of = |words: &str| words.split_whitespace().any(|word| word == name);
        if one_of(KEYWORDS) {
            return Err(format!("{name} is a word of Rust, of proto files or of SQL"));
        }
        for taken in [format!("crates/{name}"), format!("proto/taxi/{name}")] {
            if fs::exists(root.join(&taken)).unwrap_or(true) {
                return Err(format!("{name} is there already: see {taken}"));
            }
        }
        let manifest = read(&root.join("Cargo.toml"))?;
        let mut dependencies = manifest.lines().filter_map(|line| line.split_once(" = "));
        if one_of(WORDS) || dependencies.any(|(known, _)| known == name) {
            return Err(format!("{name} means something else here: find another word"));
        }
        Ok(ContextName { one: name.to_owned(), many: plural(name) })
    }

    /// A template with the name in it: `__name__`, `__Name__`, `__NAME__`, `__names__`, `__Names__`.
    pub(crate) fn fill(&self, template: &str) -> String {
        template
            .replace("__names__", &self.many)
            .replace("__Names__", &capitalized(&self.many))
            .replace("__NAME__", &self.one.to_uppercase())
            .replace("__Name__", &capitalized(&self.one))
            .replace("__name__", &self.one)
    }
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// More than one of it, by the rules of English that need no list.
fn plural(word: &str) -> String {
    let ends = |endings: &[&str]| endings.iter().any(|ending| word.ends_with(ending));
    match word.strip_suffix('y') {
        Some(stem) if !ends(&["ay", "ey", "oy", "uy"]) => format!("{stem}ies"),
        _ if ends(&["s", "x", "z", "ch", "sh"]) => format!("{word}es"),
        _ => format!("{word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root;

    #[test]
    fn a_name_is_one_free_word() {
        let refused = |name: &str| ContextName::parse(name, root()).expect_err(name);
        for bad in ["", "Rating", "night_shift", "night-shift", "rating2", "für", "../x", "a b"] {
            assert!(refused(bad).contains("one word"), "{bad}");
        }
        assert!(refused(&"r".repeat(LONGEST + 1)).contains("one word"));
        for keyword in ["match", "gen", "order", "rpc"] {
            assert!(refused(keyword).contains("a word of Rust"), "{keyword}");
        }
        for taken in ["driving", "gateway", "kernel", "event", "xtask"] {
            assert!(refused(taken).contains("there already"), "{taken}");
        }
        for meant in ["tokio", "admin", "customer", "note"] {
            assert!(refused(meant).contains("something else"), "{meant}");
        }
    }

    #[test]
    fn a_name_has_its_forms() {
        let name = ContextName::parse("rating", root()).expect("free");
        let template = "__name__ __Name__ __names__ __Names__ __NAME___X m___name___index";
        assert_eq!(name.fill(template), "rating Rating ratings Ratings RATING_X m_rating_index");
        for (one, many) in [("survey", "surveys"), ("subsidy", "subsidies"), ("pass", "passes")] {
            assert_eq!(plural(one), many);
        }
    }
}
