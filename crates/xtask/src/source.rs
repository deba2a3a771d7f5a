//! Rules on files: which words and paths may stand where.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::graph::Package;
use crate::scan::{self, Token, paths, tokens};
use crate::{Violation, read};

/// Crates that may handle connections. The others get a channel and call it.
const TRANSPORT: [&str; 6] = ["platform", "proto", "testkit", "taxi", "bench", "torture"];
/// Words of the business, of which the platform knows none. (The kernel is made of those that all
/// contexts share, their ids among them.)
const DOMAIN_WORDS: [&str; 9] = [
    "allocation",
    "allocations",
    "driving",
    "drivings",
    "payment",
    "payments",
    "dashboard",
    "ride",
    "taxi",
];
/// What a decision may be made of.
const DOMAIN_ROOTS: [&str; 9] =
    ["std", "core", "alloc", "kernel", "thiserror", "crate", "super", "self", "Self"];
/// And what it may be tested with.
const DOMAIN_TEST_ROOTS: [&str; 2] = ["proptest", "rstest"];
/// What a use case does not know.
const NOT_IN_APP: [&str; 6] =
    ["sea_orm", "sea_orm_migration", "tonic", "async_nats", "proto", "prost"];
const KERNEL_LINES: usize = 400;

/// All violations in the sources of a crate.
pub(crate) fn check(package: &Package) -> Result<Vec<Violation>, String> {
    let src = package.manifest.with_file_name("src");
    let mut files = Vec::new();
    files_in(&src, "rs", &mut files)?;
    let mut violations = Vec::new();
    let mut lines = 0;
    for file in &files {
        let source = read(file)?;
        lines += code_lines(&source);
        violations.extend(check_file(package, file, &source));
    }
    if package.name == "kernel" && lines > KERNEL_LINES {
        violations.push(Violation {
            file: src.join("lib.rs"),
            line: 1,
            rule: "kernel-is-small",
            why: format!("{lines} lines of code, at most {KERNEL_LINES}: move words out"),
        });
    }
    Ok(violations)
}

/// All files below a folder with names that end like this, in order.
pub(crate) fn files_in(
    dir: &Path,
    extension: &str,
    files: &mut Vec<PathBuf>,
) -> Result<(), String> {
    let entries = dir.read_dir().map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            files_in(&path, extension, files)?;
        } else if path.extension().is_some_and(|it| it == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// Whether a whole file is only compiled for tests.
pub(crate) fn is_test(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == "tests.rs")
        || file.components().any(|part| part.as_os_str() == "tests")
}

/// Lines with code that ships: no blank ones, no comments, no tests.
fn code_lines(source: &str) -> usize {
    let ships = |token: &Token| (!token.test).then_some(token.line);
    tokens(source).iter().filter_map(ships).collect::<BTreeSet<_>>().len()
}

fn check_file(package: &Package, file: &Path, source: &str) -> Vec<Violation> {
    let mut tokens = tokens(source);
    if is_test(file) {
        tokens.iter_mut().for_each(|token| token.test = true);
    }
    let mut found = Vec::new();
    if package.name == "platform" {
        found.extend(tokens.iter().filter_map(domain_word));
    }
    if package.is_context() && is_in(package, file, "domain") {
        found.extend(impure(package, &tokens));
    }
    if package.is_context() && is_in(package, file, "app") {
        found.extend(tokens.iter().filter_map(technology));
    }
    if !TRANSPORT.contains(&package.name.as_str()) {
        found.extend(transport(&tokens));
    }
    found
        .into_iter()
        .map(|(line, rule, why)| Violation { file: file.to_owned(), line, rule, why })
        .collect()
}

/// Whether a file is a module of this name, or below it: `app.rs`, `app/pay.rs`.
fn is_in(package: &Package, file: &Path, module: &str) -> bool {
    let src = package.manifest.with_file_name("src");
    let parts = file.strip_prefix(&src).ok().map(|file| file.with_extension(""));
    parts.is_some_and(|parts| parts.iter().any(|part| part == module))
}

type Found = (usize, &'static str, String);

fn domain_word(token: &Token) -> Option<Found> {
    let word = words(&token.text).into_iter().find(|word| DOMAIN_WORDS.contains(&word.as_str()))?;
    let why = format!("`{}` speaks of {word}, which belongs to the contexts", token.text);
    Some((token.line, "no-taxi-word-below", why))
}

/// `OpenRide_id2` is open, ride, id2; `override` is one word.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for c in name.chars() {
        let new = c == '_' || c.is_uppercase() && !before.is_uppercase();
        if new {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c != '_') {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Paths of a domain that lead out of the domain.
fn impure(package: &Package, tokens: &[Token]) -> Vec<Found> {
    let paths = paths(tokens);
    let allowed = |path: &scan::Path| {
        let root = path.segments.first().map(String::as_str).unwrap_or_default();
        DOMAIN_ROOTS.contains(&root)
            || path.test && DOMAIN_TEST_ROOTS.contains(&root)
            || root.starts_with(char::is_uppercase)
    };
    // `use std::fmt` makes `fmt::Display` a path of std; `mod tests` makes `tests::x` one of ours.
    let mut ours: BTreeSet<&str> = paths
        .iter()
        .filter(|path| allowed(path))
        .filter_map(|path| path.imported_as.as_deref())
        .collect();
    for pair in tokens.windows(2).filter(|pair| pair[0].text == "mod") {
        ours.insert(&pair[1].text);
    }
    let external: BTreeSet<String> =
        package.dependencies.iter().map(|dependency| dependency.name.replace('-', "_")).collect();
    let leads_out = |path: &&scan::Path| {
        let root = path.segments.first().map(String::as_str).unwrap_or_default();
        let import = path.imported_as.is_some();
        !allowed(path) && !ours.contains(root) && (import || external.contains(root))
    };
    let found = |path: &scan::Path| {
        let path_text = path.segments.join("::");
        let why = format!("`{path_text}`: a decision is made of std, kernel and thiserror only");
        (path.line, "domain-is-pure", why)
    };
    paths.iter().filter(leads_out).map(found).collect()
}

fn technology(token: &Token) -> Option<Found> {
    let name = NOT_IN_APP.iter().find(|name| **name == token.text)?;
    let why = format!("`{name}` belongs to an adapter, a use case does not know it");
    Some((token.line, "app-knows-no-technology", why))
}

fn transport(tokens: &[Token]) -> Vec<Found> {
    let is_transport = |path: &&scan::Path| matches!(path.segments.as_slice(), [a, b, ..] if a == "tonic" && b == "transport");
    let found = |path: &scan::Path| {
        let why = "`tonic::transport`: connections and their resilience are platform::client's and \
                   platform::server's";
        (path.line, "connections-are-the-platforms", why.to_owned())
    };
    paths(tokens).iter().filter(is_transport).map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dependency;

    fn rules(package: &str, file: &str, source: &str) -> Vec<(usize, &'static str)> {
        let dependency = |name: &str| Dependency { name: name.to_owned(), dev: false, ours: false };
        let package = Package {
            name: package.to_owned(),
            manifest: PathBuf::from("Cargo.toml"),
            dependencies: ["kernel", "sea-orm", "tonic", "proto", "serde", "rand", "proptest"]
                .map(dependency)
                .into(),
        };
        check_file(&package, Path::new(file), source)
            .into_iter()
            .map(|violation| (violation.line, violation.rule))
            .collect()
    }

    #[test]
    fn the_platform_knows_no_taxi_word() {
        let good = "/// A ride.\nfn override_it(taxing: Brides) { let x = \"taxi payment\"; }";
        assert!(rules("platform", "src/outbox.rs", good).is_empty());
        for bad in ["struct RideId;", "fn f(open_allocation: u8) {}", "const TAXI_EVENTS: u8 = 1;"]
        {
            let found = rules("platform", "src/outbox.rs", bad);
            assert_eq!(found, [(1, "no-taxi-word-below")], "{bad}");
            assert!(rules("driving", "src/domain.rs", bad).is_empty());
        }
    }

    #[test]
    fn a_domain_is_made_of_std_kernel_and_thiserror() {
        let good = "use std::fmt;\nuse kernel::{Money, Rejection};\nuse crate::domain::State::*;
            use super::Id; #[derive(thiserror::Error)] enum E {}
            impl fmt::Display for Driving { fn f() { State::Open; core::cmp::max(1, 2); } }
            mod fare { pub fn won() {} } fn g() { fare::won(); }
            #[cfg(test)] mod tests { use super::*; use proptest::prelude::*; use rstest::rstest; }";
        assert_eq!(rules("driving", "src/domain.rs", good), []);
        let bad = "use sea_orm::entity::prelude::*;\nuse proptest::prelude::*;\n\
                   #[derive(serde::Serialize)]\nstruct A(rand::Rng);\nuse std::{fmt, io};\n\
                   use {kernel::Money, tonic::Status};\n";
        let lines: Vec<usize> =
            rules("driving", "src/domain.rs", bad).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 6]);
        assert!(rules("driving", "src/entity.rs", bad).is_empty());
    }

    #[test]
    fn a_use_case_names_no_technology() {
        let good = "use platform::store::Store; // not sea_orm\nfn f(prototype: u8) {}";
        assert!(rules("driving", "src/app.rs", good).is_empty());
        let bad = "use proto::driving::v1::Driving;\nfn f() -> Result<(), tonic::Status> {}";
        let rule = "app-knows-no-technology";
        assert_eq!(rules("driving", "src/app.rs", bad), [(1, rule), (2, rule)]);
    }

    #[test]
    fn files_below_are_as_pure_as_those_above() {
        let domain = "use sea_orm::Value;";
        let app = "use proto::driving::v1::Driving;";
        for (file, source, rule) in [
            ("src/domain.rs", domain, "domain-is-pure"),
            ("src/domain/refund.rs", domain, "domain-is-pure"),
            ("src/domain/refund/part.rs", domain, "domain-is-pure"),
            ("src/app.rs", app, "app-knows-no-technology"),
            ("src/app/pay.rs", app, "app-knows-no-technology"),
        ] {
            assert_eq!(rules("payment", file, source), [(1, rule)], "{file}");
        }
        // Neither what is only called alike, nor the folder that the repository is in.
        for file in ["src/application.rs", "src/grpc/main.rs", "/usr/src/app/src/grpc.rs"] {
            assert_eq!(rules("payment", file, app), [], "{file}");
        }
    }

    #[test]
    fn connections_are_made_in_few_places() {
        for bad in [
            "use tonic::transport::Channel;",
            "use tonic::{Status, transport::{self, Server}};",
            "fn f(c: tonic::transport::Channel) {}",
        ] {
            assert!(!rules("driving", "src/clients.rs", bad).is_empty(), "{bad}");
            assert!(rules("platform", "src/client.rs", bad).is_empty(), "{bad}");
        }
        assert!(rules("driving", "src/grpc.rs", "use tonic::{Request, Status};").is_empty());
    }

    #[test]
    fn only_lines_that_ship_count() {
        let source = "//! A.\n\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
        assert_eq!(code_lines(source), 1);
    }

    #[test]
    fn names_are_words() {
        assert_eq!(words("OpenRide_id2"), ["open", "ride", "id2"]);
        assert_eq!(words("TAXI_EVENTS"), ["taxi", "events"]);
        assert_eq!(words("override"), ["override"]);
    }
}
