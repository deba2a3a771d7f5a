//! An allocation service that does nothing but answer, on a runtime of its own: what is behind a
//! gateway when nothing but the gateway shall be measured.

use std::net::{Ipv4Addr, SocketAddr};

use futures::stream::{self, Empty};
use proto::allocation::v1::allocation_service_server::{
    AllocationService, AllocationServiceServer,
};
use proto::allocation::v1::{
    Allocation, CancelAllocationRequest, GetAllocationRequest, ListAllocationsRequest,
    ListAllocationsResponse, RequestAllocationRequest, WatchAllocationRequest,
    WatchAllocationResponse,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::Result;
use crate::city::{destination, pickup};

/// The echo, until it is dropped.
#[derive(Debug)]
pub(crate) struct Echo {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Echo {
    /// Opens it on a port that the kernel chooses.
    pub(crate) fn open() -> Result<Echo> {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(TcpListener::from_std(listener)?);
            let incoming = incoming.with_nodelay(Some(true));
            let service = AllocationServiceServer::new(Same);
            Server::builder().add_service(service).serve_with_incoming(incoming).await?;
            Result::<()>::Ok(())
        });
        Ok(Echo { address, runtime: Some(runtime) })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // A runtime must not be waited for within another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Answers always the same.
struct Same;

#[tonic::async_trait]
impl AllocationService for Same {
    async fn get_allocation(
        &self,
        request: Request<GetAllocationRequest>,
    ) -> Result<Response<Allocation>, Status> {
        Ok(Response::new(Allocation {
            name: request.into_inner().name,
            customer: "customers/bench-0".to_owned(),
            pickup: Some(pickup()),
            destination: Some(destination()),
            ..Allocation::default()
        }))
    }

    async fn request_allocation(
        &self,
        _: Request<RequestAllocationRequest>,
    ) -> Result<Response<Allocation>, Status> {
        Err(only_reads())
    }

    async fn list_allocations(
        &self,
        _: Request<ListAllocationsRequest>,
    ) -> Result<Response<ListAllocationsResponse>, Status> {
        Err(only_reads())
    }

    async fn cancel_allocation(
        &self,
        _: Request<CancelAllocationRequest>,
    ) -> Result<Response<Allocation>, Status> {
        Err(only_reads())
    }

    type WatchAllocationStream = Empty<Result<WatchAllocationResponse, Status>>;

    async fn watch_allocation(
        &self,
        _: Request<WatchAllocationRequest>,
    ) -> Result<Response<Self::WatchAllocationStream>, Status> {
        Ok(Response::new(stream::empty()))
    }
}

fn only_reads() -> Status {
    Status::unimplemented("this one says what it was asked for")
}

#[cfg(test)]
mod tests {
    use proto::allocation::v1::allocation_service_client::AllocationServiceClient;

    use super::*;

    #[tokio::test]
    async fn it_says_what_it_was_asked_for() {
        let echo = Echo::open().expect("an echo");
        let url = format!("http://{}", echo.address());
        let mut client = AllocationServiceClient::connect(url).await.expect("a connection");
        let request = GetAllocationRequest { name: "allocations/1".to_owned() };
        let answer = client.get_allocation(request).await.expect("an answer").into_inner();
        assert_eq!(answer.name, "allocations/1");
    }
}
