//! An operator: the commands that work on a running mesh, and a look into its stream.

use std::collections::BTreeMap;
use std::process::Stdio;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use kernel::Uuid;
use platform::broker::{Broker, BrokerConfig};
use prost::{Message, Name};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Mesh, RELATIONAL, eventually, program};
use tokio::process::Command;

use crate::people::SOON;

/// Somebody at the command line.
pub(crate) struct Operator {
    environment: BTreeMap<String, String>,
    files: TempDir,
}

/// What a command has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Operator {
    /// An operator of this mesh: knows a ready file, and what it does not tell.
    pub(crate) fn of(mesh: &Mesh) -> Operator {
        let files = tempfile::tempdir().expect("a directory");
        let ready = mesh.ready();
        let written = json!({"grpc": ready.grpc, "nats": ready.nats, "data": ready.data});
        std::fs::write(files.path().join("ready.json"), written.to_string()).expect("written");
        let database = |context: &str| {
            let key = format!("TAXI_DATABASE__{}__URL", context.to_uppercase());
            (key, mesh.database_url(context).to_owned())
        };
        let databases = RELATIONAL.into_iter().map(database);
        // The files of `taxi dev` are found without a setting.
        let environment = databases.filter(|(_, url)| url.starts_with("postgres")).collect();
        Operator { environment, files }
    }

    /// Another database of a context, or none.
    pub(crate) fn database(&mut self, context: &str, url: &str) {
        let key = format!("TAXI_DATABASE__{}__URL", context.to_uppercase());
        self.environment.insert(key, url.to_owned());
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::from(program(env!("CARGO_BIN_EXE_taxi").as_ref()));
        command.args(arguments).arg("--ready-file").arg(self.files.path().join("ready.json"));
        command.envs(&self.environment).stdin(Stdio::null());
        let output = command.output().await.expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Said {
            code: output.status.code().expect("no signal"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// What a command lists; it must succeed.
    pub(crate) async fn list(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.run(&[arguments, &["-o", "jsonl"]].concat()).await;
        assert_eq!(said.code, 0, "{said:?}");
        said.rows()
    }
}

impl Said {
    /// The JSON documents.
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// The stream of a mesh, for a look and for forgeries.
pub(crate) struct Events {
    pub(crate) broker: Broker,
    pub(crate) stream: Stream,
}

/// One event, as it lies in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) id: String,
    pub(crate) aggregate: String,
    pub(crate) version: i64,
}

/// One event that nobody has brought about.
pub(crate) struct Forged<'a> {
    pub(crate) id: Uuid,
    pub(crate) context: &'a str,
    pub(crate) kind: String,
    pub(crate) aggregate: Uuid,
    pub(crate) version: i64,
    pub(crate) correlation: Uuid,
    pub(crate) payload: Vec<u8>,
}

impl<'a> Forged<'a> {
    /// An event that says this.
    pub(crate) fn saying<M: Message + Name>(self, body: &M) -> Forged<'a> {
        Forged { kind: M::full_name(), payload: body.encode_to_vec(), ..self }
    }

    /// An event of this kind that nobody can read.
    pub(crate) fn poison<M: Name>(self) -> Forged<'a> {
        Forged { kind: M::full_name(), payload: b"\xff".to_vec(), ..self }
    }
}

impl Events {
    pub(crate) async fn of(mesh: &Mesh) -> Events {
        let config = BrokerConfig {
            url: mesh.ready().nats.clone(),
            stream: "TAXI_EVENTS".to_owned(),
            prefix: "taxi.events".to_owned(),
            shards: 8,
            replicas: 1,
        };
        let broker = Broker::connect(config, "test").await.expect("a broker");
        let stream = broker.stream().await.expect("the stream");
        Events { broker, stream }
    }

    /// Publishes an event as the relay of its context would; answers its place in the stream.
    pub(crate) async fn publish(&self, event: &Forged<'_>) -> u64 {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Nats-Msg-Id", event.id.to_string()),
            ("ce-id", event.id.to_string()),
            ("ce-type", event.kind.clone()),
            ("ce-source", format!("/{}", event.context)),
            ("ce-subject", event.aggregate.to_string()),
            ("ce-time", "2026-01-01T00:00:00Z".to_owned()),
            ("correlation-id", event.correlation.to_string()),
            ("causation-id", event.id.to_string()),
            ("aggregate-version", event.version.to_string()),
        ] {
            headers.insert(name, value);
        }
        let name = event.kind.rsplit('.').next().expect("a name");
        let subject = self.broker.subject(event.context, name, event.correlation, event.aggregate);
        let jetstream = self.broker.jetstream();
        let sent = jetstream.publish_with_headers(subject, headers, event.payload.clone().into());
        sent.await.expect("sent").await.expect("stored").sequence
    }

    /// Waits until the broker has forgotten the ids of all that was stored before: for a moment it
    /// takes what has the same id for a copy, even of what is gone.
    pub(crate) async fn forgotten(&self) {
        let probe = Forged {
            id: Uuid::from_u128(0xf0),
            context: "test",
            kind: "taxi.test.v1.Probe".to_owned(),
            aggregate: Uuid::nil(),
            version: 1,
            correlation: Uuid::nil(),
            payload: Vec::new(),
        };
        let first = self.publish(&probe).await;
        let second = eventually(SOON, || async {
            match self.publish(&probe).await {
                copy if copy == first => Err("remembered"),
                second => Ok(second),
            }
        })
        .await;
        for sequence in [first, second] {
            self.lose(sequence).await;
        }
    }

    /// Takes an event out of the stream.
    pub(crate) async fn lose(&self, sequence: u64) {
        assert!(self.stream.delete_message(sequence).await.expect("it answers"));
    }

    /// All that is in the stream, in its order.
    pub(crate) async fn all(&self) -> Vec<Stored> {
        let state = self.stream.get_info().await.expect("it answers").state;
        let mut all = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let message = match self.stream.get_raw_message(sequence).await {
                Ok(message) => message,
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => continue,
                Err(error) => panic!("{error}"),
            };
            let header = |name| message.headers.get(name).expect("a header").to_string();
            all.push(Stored {
                sequence,
                id: header("ce-id"),
                aggregate: header("ce-subject"),
                version: header("aggregate-version").parse().expect("a number"),
            });
        }
        all
    }

    /// All that is in the stream, once so many events are.
    pub(crate) async fn complete(&self, count: usize) -> Vec<Stored> {
        eventually(SOON, || async {
            let all = self.all().await;
            if all.len() >= count { Ok(all) } else { Err(all) }
        })
        .await
    }
}
