//! What a running mesh offers, asked of itself by server reflection: no proto file is needed.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ServiceDescriptor, Value};
use tonic::Status;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::client::{Trust, cause};
use crate::exit::Exit;
use crate::ready::Ready;

/// A service of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Which context serves it.
    pub(crate) context: String,
    /// Where.
    pub(crate) channel: Channel,
    /// What it is.
    pub(crate) descriptor: ServiceDescriptor,
}

/// Everything the mesh offers.
#[derive(Debug)]
pub(crate) struct Catalogue {
    offers: Vec<Offer>,
    /// Contexts that do not answer, and why.
    away: Vec<String>,
}

impl Catalogue {
    /// Asks each context. One that is away offers nothing; all of them away is no mesh.
    pub(crate) async fn of(ready: &Ready) -> Result<Catalogue, Exit> {
        let asked =
            ready.grpc.iter().map(|(context, address)| offers(context, address, &ready.trust));
        let mut offers = Vec::new();
        let mut away = Vec::new();
        for (answer, context) in
            futures::future::join_all(asked).await.into_iter().zip(ready.grpc.keys())
        {
            match answer {
                Ok(found) => offers.extend(found),
                Err(why) => away.push(format!("{context}: {why}")),
            }
        }
        if offers.is_empty() {
            let why = away.join("; ");
            return Err(Exit::unavailable(format!(
                "the mesh does not answer ({why}): start one with `taxi dev`"
            )));
        }
        away.iter().for_each(|why| tracing::warn!("a context is away: {why}"));
        Ok(Catalogue { offers, away })
    }

    /// All services.
    pub(crate) fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// A service by its full name, its own name, or its context's name.
    pub(crate) fn service(&self, name: &str) -> Option<&Offer> {
        self.offers
            .iter()
            .find(|offer| is_named(offer.descriptor.full_name(), name) || offer.context == name)
    }

    /// A method of a service.
    pub(crate) fn method(
        &self,
        service: &str,
        method: &str,
    ) -> Result<(&Offer, MethodDescriptor), Exit> {
        let offer = self.service(service).ok_or_else(|| {
            if !self.away.is_empty() {
                let away = self.away.join("; ");
                return Exit::unavailable(format!("{service} does not answer ({away})"));
            }
            let names: Vec<&str> = self.offers.iter().map(|it| it.context.as_str()).collect();
            Exit::usage(format!("there is no service {service}: there are {}", names.join(", ")))
        })?;
        let found = offer.descriptor.methods().find(|it| it.name().eq_ignore_ascii_case(method));
        let found = found.ok_or_else(|| {
            let methods: Vec<String> =
                offer.descriptor.methods().map(|it| it.name().to_owned()).collect();
            let service = offer.descriptor.full_name();
            Exit::usage(format!("{service} has no method {method}: it has {}", methods.join(", ")))
        })?;
        Ok((offer, found))
    }

    /// The types that the services know.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &DescriptorPool> {
        self.offers.iter().map(|offer| offer.descriptor.parent_pool())
    }
}

/// Whether `given` is this full name, or its last part or parts.
pub(crate) fn is_named(full_name: &str, given: &str) -> bool {
    full_name.strip_suffix(given).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// How REST spells a method: `POST /v1/allocations`.
pub(crate) fn rest(method: &MethodDescriptor) -> Option<String> {
    const VERBS: [&str; 5] = ["get", "put", "post", "delete", "patch"];
    let http = method.parent_pool().get_extension_by_name("google.api.http")?;
    let options: DynamicMessage = method.options();
    let Value::Message(rule) = options.get_extension(&http).into_owned() else { return None };
    let verb = VERBS.into_iter().find(|verb| rule.has_field_by_name(verb))?;
    let path = rule.get_field_by_name(verb)?;
    Some(format!("{} {}", verb.to_uppercase(), path.as_str()?))
}

/// Whether a service is of this context, by its package: at the address of a gateway there are those
/// of all contexts, and at any address there are some that every server has.
fn is_of(context: &str, service: &str) -> bool {
    service.split('.').rev().nth(2) == Some(context)
}

/// The services of one context.
async fn offers(context: &str, address: &str, trust: &Trust) -> Result<Vec<Offer>, String> {
    let endpoint = trust.endpoint(address).map_err(|error| error.to_string())?;
    let away = |error| match address.starts_with("https://") {
        true => format!("{address} is not reached by TLS: {}", cause(&error)),
        false => format!("nobody listens on {address}"),
    };
    let channel = endpoint.connect().await.map_err(away)?;
    let mut reflection = Reflection::new(channel.clone());
    let answer = reflection.ask(MessageRequest::ListServices(String::new())).await;
    let names = match answer.map_err(|status| status.to_string())? {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|it| it.name),
        _ => return Err("its reflection speaks another language".to_owned()),
    };
    let mut offers = Vec::new();
    for name in names.filter(|name| is_of(context, name)) {
        let pool = reflection.pool(&name).await.map_err(|status| status.to_string())?;
        let descriptor = pool.get_service_by_name(&name);
        let descriptor =
            descriptor.ok_or_else(|| format!("its reflection does not know {name}"))?;
        offers.push(Offer { context: context.to_owned(), channel: channel.clone(), descriptor });
    }
    if offers.is_empty() {
        return Err(format!("{address} serves something else"));
    }
    Ok(offers)
}

/// A set of files as they came, options we do not know included.
#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

/// One server's reflection.
struct Reflection {
    client: ServerReflectionClient<Channel>,
}

impl Reflection {
    fn new(channel: Channel) -> Reflection {
        Reflection { client: ServerReflectionClient::new(channel) }
    }

    async fn ask(&mut self, question: MessageRequest) -> Result<MessageResponse, Status> {
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let questions = futures::stream::iter([request]);
        let mut answers = self.client.server_reflection_info(questions).await?.into_inner();
        match answers.message().await?.and_then(|answer| answer.message_response) {
            Some(MessageResponse::ErrorResponse(error)) => {
                Err(Status::not_found(error.error_message))
            }
            Some(answer) => Ok(answer),
            None => Err(Status::internal("reflection did not answer")),
        }
    }

    /// The types of the file that declares a symbol, and of all files it imports.
    async fn pool(&mut self, symbol: &str) -> Result<DescriptorPool, Status> {
        let mut files = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        let mut question = MessageRequest::FileContainingSymbol(symbol.to_owned());
        loop {
            let MessageResponse::FileDescriptorResponse(answer) = self.ask(question).await? else {
                return Err(Status::internal("reflection answered something else"));
            };
            for bytes in answer.file_descriptor_proto {
                let file = prost_types::FileDescriptorProto::decode(bytes.as_slice())
                    .map_err(|error| Status::internal(error.to_string()))?;
                wanted.extend(file.dependency.iter().cloned());
                files.insert(file.name().to_owned(), bytes);
            }
            match wanted.iter().find(|name| !files.contains_key(*name)) {
                Some(name) => question = MessageRequest::FileByFilename(name.clone()),
                None => break,
            }
        }
        let files = Files { file: files.into_values().collect() };
        DescriptorPool::decode(files.encode_to_vec().as_slice())
            .map_err(|error| Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_short() {
        let full = "taxi.allocation.v1.Allocation.State";
        for given in [full, "Allocation.State", "State"] {
            assert!(is_named(full, given), "{given}");
        }
        for given in ["tate", "Allocation", "v1.Allocation", ""] {
            assert!(!is_named(full, given), "{given}");
        }
    }

    #[test]
    fn a_service_is_of_one_context() {
        for (service, is) in [
            ("taxi.driving.v1.DrivingService", true),
            ("taxi.payment.v1.PaymentService", false),
            ("grpc.health.v1.Health", false),
            ("Health", false),
        ] {
            assert_eq!(is_of("driving", service), is, "{service}");
        }
    }

    #[test]
    fn a_method_knows_its_rest_spelling() {
        let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let service = pool.get_service_by_name("taxi.allocation.v1.AllocationService");
        let service = service.expect("there");
        let method = |name: &str| service.methods().find(|it| it.name() == name).expect("there");
        assert_eq!(rest(&method("RequestAllocation")).as_deref(), Some("POST /v1/allocations"));
        let get = rest(&method("GetAllocation"));
        assert_eq!(get.as_deref(), Some("GET /v1/{name=allocations/*}"));
    }
}
