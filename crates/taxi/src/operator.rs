//! How the commands of an operator reach the databases and the broker of a running mesh.
//!
//! What is configured counts. What is not is looked up in the ready file of `taxi dev`, whose mesh
//! can be worked on without a single setting.

use std::path::{Path, PathBuf};

use kernel::Failure;
use platform::broker::Broker;
use platform::db::{Db, DbConfig, failure};

use crate::Global;
use crate::config::{self, Settings, Source, sqlite_url};
use crate::contexts::{MessageConfig, Name};
use crate::exit::Exit;
use crate::mesh;
use crate::ready::{self, Ready};

/// Where the parts of a running mesh are.
pub(crate) struct Addresses {
    settings: Settings,
    ready_file: Option<PathBuf>,
}

impl Addresses {
    /// Reads the configuration.
    pub(crate) fn load(source: &Source, global: &Global) -> Result<Addresses, Exit> {
        let settings = source.load()?.value;
        Ok(Addresses { settings, ready_file: global.ready_file.clone() })
    }

    /// Where the database of a context is.
    pub(crate) fn database_config(&self, context: Name) -> Result<DbConfig, Exit> {
        let config = context.database(&self.settings.database);
        let mut config = config.ok_or_else(|| no_database(context))?.clone();
        if config.url.is_empty() {
            let key = format!("database.{context}.url");
            let data = data_dir(&self.running(&key)?, self.ready_path());
            let file = data.map(|dir| dir.join(format!("{context}.db")));
            let file = file.filter(|file| file.is_file()).ok_or_else(|| {
                Exit::config(format!("{}; the running mesh has no file of it", unset(&key)))
            })?;
            config.url = sqlite_url(&file);
        }
        Ok(config)
    }

    /// The database of a context. It answers, and its schema is current.
    pub(crate) async fn database(&self, context: Name) -> Result<Db, Exit> {
        let mut settings = self.settings.clone();
        if let Some(config) = context.database_mut(&mut settings.database) {
            *config = self.database_config(context)?;
        }
        let db = mesh::open(context, &settings).await?;
        match context.is_ready(&db).await {
            Ok(true) => Ok(db),
            Ok(false) => Err(Exit::failed(format!(
                "the schema of {context} is not current: run `taxi migrate {context}`"
            ))),
            Err(error) => Err(database_failed(context, failure(error))),
        }
    }

    /// The broker. It answers, and has the stream of events.
    pub(crate) async fn broker(&self) -> Result<Broker, Exit> {
        let mut config = self.settings.broker.clone();
        if config.url.is_empty() {
            let nats = self.running("broker.url")?.nats;
            config.url = nats.ok_or_else(|| Exit::config(unset("broker.url")))?;
        }
        let stream = config.stream.clone();
        let broker = Broker::connect(config, "operator").await;
        let broker = broker.map_err(|error| Exit::config(format!("broker.url: {error}")))?;
        match broker.jetstream().get_stream(&stream).await {
            Ok(_) => Ok(broker),
            Err(error) if broker.is_connected() => Err(Exit::unavailable(format!(
                "the stream {stream} of the broker cannot be read: {error}"
            ))),
            Err(_) => Err(Exit::unavailable(
                "the broker does not answer: see that it runs, and that broker.url is its address",
            )),
        }
    }

    /// How the message context keeps its messages.
    pub(crate) fn message(&self) -> &MessageConfig {
        &self.settings.message
    }

    /// The running mesh, because this is not set.
    fn running(&self, key: &str) -> Result<Ready, Exit> {
        let found = ready::find(self.ready_file.as_deref());
        found.map_err(|exit| Exit::unavailable(format!("{}; {exit}", unset(key))))
    }

    fn ready_path(&self) -> &Path {
        self.ready_file.as_deref().unwrap_or(Path::new(ready::DEFAULT))
    }
}

/// What it means that a database did not do what it should.
pub(crate) fn database_failed(context: Name, failure: Failure) -> Exit {
    let source = std::error::Error::source(&failure);
    let words = source.map_or_else(|| failure.to_string(), ToString::to_string);
    match failure {
        Failure::Unavailable(_) => {
            Exit::unavailable(format!("the database of {context} does not answer: {words}"))
        }
        Failure::Rejected(_) | Failure::Internal(_) => {
            Exit::failed(format!("the database of {context} cannot be used: {words}"))
        }
    }
}

/// The data directory of a mesh. One that is relative was so for whoever wrote the ready file, which
/// lies in it.
fn data_dir(ready: &Ready, ready_file: &Path) -> Option<PathBuf> {
    let data = ready.data.as_deref()?;
    let around = ready_file.parent().filter(|dir| data.is_relative() && dir.ends_with(data));
    Some(around.unwrap_or(data).to_owned())
}

fn unset(key: &str) -> String {
    config::required(key, "").err().map_or_else(String::new, |exit| exit.to_string())
}

fn no_database(context: Name) -> Exit {
    Exit::usage(format!("{context} has no database"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_data_directory_is_found_from_anywhere() {
        let data = |data: &str, ready_file: &str| {
            let ready = Ready { data: Some(data.into()), ..Ready::default() };
            data_dir(&ready, Path::new(ready_file)).expect("a directory")
        };
        assert_eq!(data(".taxi", ".taxi/ready.json"), Path::new(".taxi"));
        assert_eq!(data(".taxi", "/there/.taxi/ready.json"), Path::new("/there/.taxi"));
        assert_eq!(data("/tmp/taxi-1", "/there/.taxi/ready.json"), Path::new("/tmp/taxi-1"));
    }
}
