//! The ways of a request, and who sends it along them.

use bytes::{BufMut as _, Bytes, BytesMut};
use clap::ValueEnum;
use kernel::Role;
use prost::Message as _;
use proto::allocation::v1::allocation_service_client::AllocationServiceClient;
use proto::allocation::v1::{Allocation, GetAllocationRequest};
use serde::Serialize;
use testkit::{AllocationClient, Bearer, Known};
use tonic::transport::Endpoint;

use super::echo::Echo;
use crate::Result;
use crate::city::City;

/// The gateway in front of the mesh, and the one in front of the echo.
const GATEWAY: &str = "gateway";
const TO_THE_ECHO: &str = "gateway-echo";
/// Connections of gRPC; calls in flight share them.
const CONNECTIONS: usize = 4;

/// From where to where, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    Direct,
    Grpc,
    GrpcWeb,
    Rest,
    EchoDirect,
    EchoGrpc,
    EchoGrpcWeb,
    EchoRest,
}

impl Way {
    pub(crate) const ALL: [Way; 8] = [
        Way::Direct,
        Way::Grpc,
        Way::GrpcWeb,
        Way::Rest,
        Way::EchoDirect,
        Way::EchoGrpc,
        Way::EchoGrpcWeb,
        Way::EchoRest,
    ];

    /// What it is called in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Direct => "allocation, direct gRPC",
            Way::Grpc => "allocation, gRPC",
            Way::GrpcWeb => "allocation, gRPC-Web",
            Way::Rest => "allocation, REST",
            Way::EchoDirect => "echo, direct gRPC",
            Way::EchoGrpc => "echo, gRPC",
            Way::EchoGrpcWeb => "echo, gRPC-Web",
            Way::EchoRest => "echo, REST",
        }
    }

    /// The way that goes past the gateway, if this one goes through it.
    pub(crate) fn past_the_gateway(self) -> Option<Way> {
        match self {
            Way::Direct | Way::EchoDirect => None,
            Way::Grpc | Way::GrpcWeb | Way::Rest => Some(Way::Direct),
            Way::EchoGrpc | Way::EchoGrpcWeb | Way::EchoRest => Some(Way::EchoDirect),
        }
    }
}

/// Both gateways, and who calls.
pub(crate) struct Fleet {
    callers: Vec<(Way, Vec<Caller>)>,
    gateway: u32,
    to_the_echo: u32,
}

impl Fleet {
    /// Opens the gateways; an allocation to be asked for is there when it returns.
    pub(crate) async fn start(city: &mut City, echo: &Echo) -> Result<Fleet> {
        let mesh = &mut city.mesh;
        for limit in ["PER_PRINCIPAL", "PER_ADDRESS"] {
            // Here nobody asks for too much.
            for part in ["PER_SECOND", "BURST"] {
                mesh.set(GATEWAY, &format!("TAXI_GATEWAY__{limit}__{part}"), "1000000");
            }
        }
        let url = mesh.start_gateway().await;
        let port = testkit::free_port()?;
        mesh.set(TO_THE_ECHO, "TAXI_LISTEN__GATEWAY", &port.to_string());
        mesh.set(TO_THE_ECHO, "TAXI_UPSTREAM__ALLOCATION", &echo.address().to_string());
        mesh.start_context(TO_THE_ECHO).await;
        let (gateway, to_the_echo) = (mesh.pid(GATEWAY), mesh.pid(TO_THE_ECHO));

        let wish = city.customers().next();
        let allocation = city.allocation(0).request_allocation(wish).await?.into_inner();
        let token = city.mesh.token(Role::Operator, "bench").await;
        let direct = format!("http://{}", city.mesh.address("allocation"));
        let echo_direct = format!("http://{}", echo.address());
        let echo_url = format!("http://127.0.0.1:{port}");
        let ask = Ask { name: allocation.name, token };
        let callers = Way::ALL.into_iter().map(|way| {
            let callers = match way {
                Way::Direct => ask.by_grpc(&direct)?,
                Way::Grpc => ask.by_grpc(&url)?,
                Way::EchoDirect => ask.by_grpc(&echo_direct)?,
                Way::EchoGrpc => ask.by_grpc(&echo_url)?,
                Way::GrpcWeb => ask.by_grpc_web(&url)?,
                Way::EchoGrpcWeb => ask.by_grpc_web(&echo_url)?,
                Way::Rest => ask.by_rest(&url)?,
                Way::EchoRest => ask.by_rest(&echo_url)?,
            };
            Ok((way, callers))
        });
        Ok(Fleet { callers: callers.collect::<Result<_>>()?, gateway, to_the_echo })
    }

    /// The n-th caller on this way.
    pub(crate) fn caller(&self, way: Way, n: usize) -> Result<Caller> {
        let known = self.callers.iter().find(|(of, _)| *of == way);
        let callers = known.map(|(_, callers)| callers).ok_or("nobody goes this way")?;
        callers.get(n % callers.len()).cloned().ok_or_else(|| "nobody goes this way".into())
    }

    /// The process of the gateway on this way, if it has one.
    pub(crate) fn gateway(&self, way: Way) -> Option<u32> {
        match way.past_the_gateway()? {
            Way::EchoDirect => Some(self.to_the_echo),
            _ => Some(self.gateway),
        }
    }
}

/// What is asked for, and in whose name.
struct Ask {
    name: String,
    token: String,
}

impl Ask {
    fn by_grpc(&self, url: &str) -> Result<Vec<Caller>> {
        let bearer = Bearer::new(&self.token);
        let caller = |_| {
            let channel = Endpoint::from_shared(url.to_owned())?.connect_lazy();
            let client = AllocationServiceClient::new(Known::new(channel, bearer.clone()));
            Ok(Caller::Grpc(client, self.name.clone()))
        };
        (0..CONNECTIONS).map(caller).collect()
    }

    fn by_grpc_web(&self, url: &str) -> Result<Vec<Caller>> {
        let request = GetAllocationRequest { name: self.name.clone() };
        let body = framed(&request.encode_to_vec());
        let url = format!("{url}/taxi.allocation.v1.AllocationService/GetAllocation");
        Ok(vec![Caller::GrpcWeb { http: http()?, url, token: self.token.clone(), body }])
    }

    fn by_rest(&self, url: &str) -> Result<Vec<Caller>> {
        let url = format!("{url}/v1/{}", self.name);
        Ok(vec![Caller::Rest { http: http()?, url, token: self.token.clone() }])
    }
}

/// A client that keeps its connections.
fn http() -> Result<reqwest::Client> {
    // Nobody's proxy knows our loopback.
    Ok(reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?)
}

/// A message as gRPC and gRPC-Web frame it.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

/// Somebody who asks, one question at a time.
#[derive(Clone)]
pub(crate) enum Caller {
    Grpc(AllocationClient, String),
    GrpcWeb { http: reqwest::Client, url: String, token: String, body: Bytes },
    Rest { http: reqwest::Client, url: String, token: String },
}

impl Caller {
    /// Asks once; the answer has to be one.
    pub(crate) async fn ask(&mut self) -> Result<()> {
        match self {
            Caller::Grpc(client, name) => {
                let request = GetAllocationRequest { name: name.clone() };
                named(&client.get_allocation(request).await?.into_inner())
            }
            Caller::GrpcWeb { http, url, token, body } => {
                let request = http.post(&*url).bearer_auth(&*token).body(body.clone());
                let request = request.header("content-type", "application/grpc-web+proto");
                let answer = request.send().await?.error_for_status()?.bytes().await?;
                named(&message_in(&answer)?)
            }
            Caller::Rest { http, url, token } => {
                let answer = http.get(&*url).bearer_auth(&*token).send().await?;
                let answer = answer.error_for_status()?.bytes().await?;
                match answer.starts_with(b"{") {
                    true => Ok(()),
                    false => Err("an answer that is no JSON".into()),
                }
            }
        }
    }
}

fn named(allocation: &Allocation) -> Result<()> {
    match allocation.name.is_empty() {
        true => Err("an answer without an allocation".into()),
        false => Ok(()),
    }
}

/// The message before the trailers, which have to say that all is well.
fn message_in(answer: &[u8]) -> Result<Allocation> {
    let short = || "a gRPC-Web answer that breaks off";
    let (head, rest) = answer.split_first_chunk::<5>().ok_or_else(short)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let (message, trailers) = rest.split_at_checked(length).ok_or_else(short)?;
    let trailers = String::from_utf8_lossy(trailers);
    if head[0] != 0 || !trailers.replace(' ', "").contains("grpc-status:0") {
        return Err(format!("a gRPC-Web answer of {answer:?}").into());
    }
    Ok(Allocation::decode(message)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_over_grpc_web_is_a_message_and_trailers() {
        let allocation = Allocation { name: "allocations/1".to_owned(), ..Default::default() };
        let message = framed(&allocation.encode_to_vec());
        let answer = |trailers: &str| {
            let mut frame = framed(trailers.as_bytes()).to_vec();
            frame[0] = 0x80;
            [&*message, &frame].concat()
        };
        let well = message_in(&answer("grpc-status:0\r\n")).expect("a message");
        assert_eq!(well, allocation);
        assert!(message_in(&answer("grpc-status:5\r\n")).is_err());
        assert!(message_in(&message).is_err());
        assert!(message_in(&message[..3]).is_err());
    }
}
