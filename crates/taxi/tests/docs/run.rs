//! The commands of every page, run as they stand: each page against a mesh of its own, from top to
//! bottom in one shell, so that what one block sets the next one has.
//!
//! Only what a person's machine has otherwise than a test's is replaced: the ports of `make run` by
//! those of the mesh, and the ways to call `taxi` by the binary under test.

use std::path::Path;

use futures::stream::{self, StreamExt};
use testkit::{Backing, Mesh};

use crate::pages::{Block, Page, all};
use crate::rest::comes_to_rest;
use crate::shape;
use crate::shell::Shell;

/// Set to a part of a path to run only those pages.
const PAGE: &str = "PAGE";
/// How many pages are run at the same time.
const TOGETHER: usize = 3;
/// The ports of `make run`.
const PORTS: [(&str, &str); 5] = [
    ("allocation", "8081"),
    ("payment", "8083"),
    ("dashboard", "8084"),
    ("message", "8085"),
    ("driving", "8086"),
];
/// The fee is waited for until it is taken, however busy the machine is.
const PATIENT: &str = "
[payment]
deadline = \"10s\"
provider_timeout = \"8s\"
[call.pay_fee]
attempt_timeout = \"9s\"
";
/// What builds or changes more than a mesh: others run it, and the page says who.
const NOT_HERE: [&str; 9] =
    ["make", "cargo", "git", "kubectl", "helm", "docker", "apt-get", ".ci/", "examples/"];
/// It has the blocks of `README.md`: see [`twins`](crate::twins).
const TWIN: &str = "README.ko.md";
/// How pages call the program.
const TAXI: [&str; 3] = ["$PWD/target/debug/taxi", "target/debug/taxi", "cargo run -q -p taxi --"];

#[tokio::test(flavor = "multi_thread")]
async fn every_command_does_what_its_page_says() {
    let wanted = std::env::var(PAGE).unwrap_or_default();
    let mut pages = all();
    pages.retain(|page| page.blocks.iter().any(is_run) && page.path != Path::new(TWIN));
    pages.retain(|page| page.path.to_string_lossy().contains(&wanted));
    assert!(!pages.is_empty(), "no page is called {wanted:?}, or none has a command");
    let outcomes = stream::iter(pages).map(checked).buffer_unordered(TOGETHER);
    let faults: Vec<String> = outcomes
        .filter_map(async |outcome| outcome.inspect(|done| println!("{done}")).err())
        .collect()
        .await;
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
}

fn is_run(block: &Block) -> bool {
    block.is_shell() && block.marker.is_none()
}

/// Runs a page from top to bottom: what was done, or what went wrong first.
async fn checked(page: Page) -> Result<String, String> {
    let mesh = patient_mesh().await;
    let mut shell = Shell::start(&mesh);
    let (mut blocks, mut outputs) = (0, 0);
    let mut printed = None;
    for block in &page.blocks {
        let said = |fault: String| format!("{}: {fault}", page.at(block.line));
        let before = printed.take();
        if is_run(block) {
            printed = Some(run(&mesh, &mut shell, block).await.map_err(said)?);
            blocks += 1;
        } else if let Some(printed) = before.filter(|_| block.is_output() && block.follows) {
            shape::fault(&block.text, &printed).map_or(Ok(()), Err).map_err(said)?;
            outputs += 1;
        }
    }
    Ok(format!("{}: {blocks} blocks, {outputs} outputs", page.path.display()))
}

/// A mesh of its own.
async fn patient_mesh() -> Mesh {
    let files = tempfile::tempdir().expect("a directory");
    let file = files.path().join("taxi.toml");
    std::fs::write(&file, PATIENT).expect("written");
    let arguments = ["--config", file.to_str().expect("text")];
    Mesh::start_with(env!("CARGO_BIN_EXE_taxi"), Backing::Sqlite, &arguments).await
}

/// Runs a block: all that it prints.
async fn run(mesh: &Mesh, shell: &mut Shell, block: &Block) -> Result<String, String> {
    let mut printed = String::new();
    for command in commands_of(block) {
        let program = command.split_whitespace().next().unwrap_or_default();
        if NOT_HERE.iter().any(|start| program.starts_with(start)) {
            return Err(format!("say in a comment above who runs `{program}`"));
        }
        comes_to_rest(mesh).await;
        let outcome = shell.run(&here(mesh, &command)).await;
        printed += &outcome.map_err(|fault| format!("{command}{fault}"))?;
    }
    Ok(printed)
}

/// One command for each prompt; a block without prompts is one.
fn commands_of(block: &Block) -> Vec<String> {
    let mut commands = vec![String::new()];
    for line in block.text.lines() {
        let command = line.strip_prefix("$ ").filter(|_| block.language == "console");
        if command.is_some() {
            commands.push(String::new());
        }
        let last = commands.last_mut().expect("there is one from the beginning");
        *last += command.unwrap_or(line);
        last.push('\n');
    }
    commands.retain(|command| !command.trim().is_empty());
    commands
}

/// A command as it is for this mesh.
fn here(mesh: &Mesh, command: &str) -> String {
    let addresses = PORTS.map(|(context, port)| (port, mesh.address(context).to_string()));
    let gateway = mesh.gateway().trim_start_matches("http://").to_owned();
    let mut command = command.replace("localhost:8", "127.0.0.1:8");
    for (port, address) in addresses.into_iter().chain([("8088", gateway)]) {
        command = command.replace(&format!("127.0.0.1:{port}"), &address);
    }
    TAXI.iter().fold(command, |command, way| command.replace(way, "taxi"))
}
