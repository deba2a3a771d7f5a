//! What the door answers itself: reflection of all services, and health.

use axum::Router;
use prost_reflect::DescriptorPool;
use tokio::sync::watch;
use tonic::service::RoutesBuilder;
use tonic_health::pb::health_server::HealthServer;

use super::GatewayError;
use super::health::Doctor;
use crate::upstream::Upstreams;

const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

const METHODS: [&str; 4] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Whether the door answers this path itself, and anybody may ask.
pub(super) fn is_own(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    service.is_some_and(|(service, _)| service == HEALTH || REFLECTION.contains(&service))
}

/// What is called at this path, if it is one of ours: `package.Service/Method`.
pub(super) fn method(path: &str) -> Option<&'static str> {
    METHODS.into_iter().find(|method| path.strip_prefix('/') == Some(method))
}

/// Reflection and health.
pub(super) fn router(
    pool: &DescriptorPool,
    upstreams: Upstreams,
    serving: watch::Receiver<bool>,
) -> Result<Router, GatewayError> {
    let descriptors = pool.encode_to_vec();
    let mut builder = RoutesBuilder::default();
    builder.add_service(reflection(&descriptors, &upstreams).build_v1()?);
    builder.add_service(reflection(&descriptors, &upstreams).build_v1alpha()?);
    builder.add_service(HealthServer::new(Doctor::new(upstreams, serving)));
    Ok(builder.routes().into_axum_router())
}

fn reflection<'a>(
    descriptors: &'a [u8],
    upstreams: &Upstreams,
) -> tonic_reflection::server::Builder<'a> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(descriptors)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
    let mut names: Vec<&str> = upstreams.services().chain([HEALTH]).chain(REFLECTION).collect();
    names.sort_unstable();
    names.into_iter().fold(builder, |builder, name| builder.with_service_name(name))
}
