//! Rules on crates: who may depend on whom.
//!
//! ```text
//! taxi -> contexts, gateway -> platform -> kernel        contexts, gateway -> proto -> kernel
//! ```

use std::path::PathBuf;

use serde_json::Value;

use crate::Violation;

/// The bounded contexts. They meet only in `proto`.
pub(crate) const CONTEXTS: [&str; 5] = ["allocation", "driving", "payment", "dashboard", "message"];
/// Crates at the top: nothing depends on them.
const TOPS: [&str; 5] = ["taxi", "bench", "torture", "models", "xtask"];
/// All that the kernel may need, beside std.
const KERNEL: [&str; 2] = ["thiserror", "uuid"];

/// A crate of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) dev: bool,
    pub(crate) ours: bool,
}

impl Package {
    pub(crate) fn is_context(&self) -> bool {
        CONTEXTS.contains(&self.name.as_str())
    }
}

/// Reads what `cargo metadata --no-deps` prints.
pub(crate) fn parse(metadata: &str) -> Result<Vec<Package>, String> {
    let metadata: Value = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let dependency = |value: &Value| Dependency {
        // What the source calls it.
        name: text(if value["rename"].is_string() { &value["rename"] } else { &value["name"] }),
        dev: value["kind"] == "dev",
        ours: value["path"].is_string(),
    };
    let package = |value: &Value| Package {
        name: text(&value["name"]),
        manifest: PathBuf::from(text(&value["manifest_path"])),
        dependencies: list(&value["dependencies"]).iter().map(dependency).collect(),
    };
    Ok(list(&metadata["packages"]).iter().map(package).collect())
}

/// All violations.
pub(crate) fn check(packages: &[Package]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in packages {
        for dependency in &package.dependencies {
            if let Some((rule, why)) = forbidden(package, dependency) {
                violations.push(Violation {
                    file: package.manifest.clone(),
                    line: line_of(package, &dependency.name),
                    rule,
                    why,
                });
            }
        }
    }
    violations
}

/// The direction that a dependency runs against, if any.
fn forbidden(package: &Package, dependency: &Dependency) -> Option<(&'static str, String)> {
    let (from, to) = (package.name.as_str(), dependency.name.as_str());
    let context = CONTEXTS.contains(&to);
    if from == "kernel" && !dependency.dev && !KERNEL.contains(&to) {
        return Some(("kernel-is-pure", format!("the kernel needs no {to}")));
    }
    if !dependency.ours {
        return None;
    }
    if TOPS.contains(&to) {
        return Some(("top-is-top", format!("nothing depends on {to}")));
    }
    match from {
        // Nobody learns a neighbour's language, not even in a test.
        _ if package.is_context() && context => {
            Some(("contexts-are-strangers", format!("{from} and {to} meet only in proto")))
        }
        _ if package.is_context() && to == "gateway" => {
            Some(("contexts-are-strangers", format!("{from} does not know its door")))
        }
        "kernel" if to != "testkit" => {
            Some(("kernel-is-pure", format!("the kernel is below {to}")))
        }
        "platform" if !(to == "kernel" || dependency.dev && to == "testkit") => {
            Some(("platform-names-no-context", format!("the platform is below {to}")))
        }
        // Shared words and their messages are turned into each other there.
        "proto" if to != "kernel" => {
            Some(("proto-is-a-contract", format!("the contract is below {to}")))
        }
        "gateway" if context => {
            Some(("gateway-works-from-descriptors", format!("the gateway does not know {to}")))
        }
        "testkit" if context || to == "gateway" => {
            Some(("tests-use-the-front-door", format!("the testkit does not know {to}")))
        }
        "xtask" => Some(("chores-stand-alone", format!("xtask must build without {to}"))),
        _ if to == "testkit" && !dependency.dev && !["bench", "torture"].contains(&from) => {
            Some(("testkit-is-for-tests", format!("{from} ships, the testkit does not")))
        }
        _ => None,
    }
}

/// Where the manifest names it; the first line when it does so in a way of its own.
fn line_of(package: &Package, dependency: &str) -> usize {
    let manifest = std::fs::read_to_string(&package.manifest).unwrap_or_default();
    let names = |line: &str| {
        line.trim_start()
            .strip_prefix(dependency)
            .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    let in_dependencies = manifest
        .lines()
        .enumerate()
        .skip_while(|(_, line)| !line.contains("dependencies]"))
        .find(|(_, line)| names(line));
    in_dependencies.map_or(1, |(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(package: &str, dependencies: &str) -> Vec<&'static str> {
        let metadata = format!(
            r#"{{"packages": [{{"name": "{package}", "manifest_path": "/nowhere/Cargo.toml",
                "dependencies": [{dependencies}]}}]}}"#
        );
        let packages = parse(&metadata).expect("metadata");
        check(&packages).into_iter().map(|violation| violation.rule).collect()
    }

    fn ours(name: &str) -> String {
        format!(r#"{{"name": "{name}", "kind": null, "path": "/nowhere/{name}"}}"#)
    }

    fn dev(name: &str) -> String {
        format!(r#"{{"name": "{name}", "kind": "dev", "path": "/nowhere/{name}"}}"#)
    }

    #[test]
    fn the_directions_of_the_plan_are_allowed() {
        for (from, to) in [
            ("taxi", "allocation"),
            ("taxi", "gateway"),
            ("driving", "platform"),
            ("driving", "proto"),
            ("driving", "kernel"),
            ("gateway", "platform"),
            ("gateway", "proto"),
            ("platform", "kernel"),
            ("proto", "kernel"),
            ("testkit", "platform"),
            ("bench", "testkit"),
        ] {
            assert!(rules(from, &ours(to)).is_empty(), "{from} -> {to}");
        }
        assert!(rules("driving", &dev("testkit")).is_empty());
        assert!(rules("platform", &dev("testkit")).is_empty());
        assert!(rules("kernel", r#"{"name": "uuid", "kind": null}"#).is_empty());
        assert!(rules("kernel", r#"{"name": "proptest", "kind": "dev"}"#).is_empty());
    }

    #[test]
    fn the_others_are_not() {
        for (from, to, rule) in [
            ("driving", "payment", "contexts-are-strangers"),
            ("message", "gateway", "contexts-are-strangers"),
            ("kernel", "proto", "kernel-is-pure"),
            ("platform", "proto", "platform-names-no-context"),
            ("platform", "driving", "platform-names-no-context"),
            ("proto", "platform", "proto-is-a-contract"),
            ("gateway", "dashboard", "gateway-works-from-descriptors"),
            ("testkit", "driving", "tests-use-the-front-door"),
            ("bench", "taxi", "top-is-top"),
            ("xtask", "kernel", "chores-stand-alone"),
            ("driving", "testkit", "testkit-is-for-tests"),
        ] {
            assert_eq!(rules(from, &ours(to)), [rule], "{from} -> {to}");
        }
        assert_eq!(rules("driving", &dev("payment")), ["contexts-are-strangers"]);
        assert_eq!(rules("kernel", r#"{"name": "serde", "kind": null}"#), ["kernel-is-pure"]);
    }
}
