//! A part of the world beside the product: the issuer of tokens, the payment provider.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use testkit::{Process, program, read_json};

use crate::Result;

const READY: Duration = Duration::from_secs(30);

/// One that runs, with files of its own that outlive a restart.
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    process: Process,
    url: String,
}

#[derive(Deserialize)]
struct Started {
    url: String,
}

impl Part {
    /// Starts it on a port chosen by the kernel.
    pub(crate) async fn start(
        name: &'static str,
        binary: &Path,
        dir: &Path,
        arguments: &[String],
    ) -> Result<Part> {
        let ready_file = dir.join(format!("{name}.json"));
        std::fs::remove_file(&ready_file).ok();
        let mut command = program(binary);
        command.args([name, "--ready-file"]).arg(&ready_file);
        command.arg("--data").arg(dir.join(format!("{name}.data"))).args(arguments);
        let mut process = Process::spawn(name, &mut command, dir)?;
        let started: Started = process.until(READY, || read_json(&ready_file)).await?;
        Ok(Part { name, process, url: started.url })
    }

    /// Its base address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.url.trim_start_matches("http://").parse()?)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// How it ended, once, when nobody asked for it.
    pub(crate) fn ended_by_itself(&mut self) -> Option<String> {
        let status = self.process.ended().filter(|_| !self.process.let_go())?;
        // Said once.
        self.process.kill();
        Some(format!("{} ended by itself ({status}):\n{}", self.name, self.process.tail()))
    }
}
