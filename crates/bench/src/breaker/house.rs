//! A payment service that answers as it is told: a real server behind TCP, on a runtime of its own.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use platform::auth::ServiceTokens;
use platform::client::{CallPolicy, Unary, balanced, unary};
use platform::issuer::{Issuer, SECRET};
use proto::payment::v1::payment::State;
use proto::payment::v1::payment_service_client::PaymentServiceClient;
use proto::payment::v1::payment_service_server::{PaymentService, PaymentServiceServer};
use proto::payment::v1::{
    GetPaymentRequest, ListPaymentsRequest, ListPaymentsResponse, PayFeeRequest, Payment,
    RefundPaymentRequest, SettlePaymentRequest,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::Result;

/// Calls it through the whole stack.
pub(crate) type Client = PaymentServiceClient<Unary>;

/// How a fee is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is taken.
    Taken,
    /// With `UNAVAILABLE`.
    Failure,
    /// Not at all.
    Silence,
    /// With `UNAVAILABLE`, so many of each hundred, nobody knows which.
    Flaky(usize),
}

/// The house of the payment service, and of an issuer whose tokens open its door.
#[derive(Debug)]
pub(crate) struct House {
    address: SocketAddr,
    issuer: String,
    answer: watch::Sender<Answer>,
    asked: Arc<AtomicU64>,
    runtime: Option<Runtime>,
}

impl House {
    /// Opens; what it does by chance follows from the seed.
    pub(crate) fn open(seed: u64) -> Result<House> {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build()?;
        let (answer, told) = watch::channel(Answer::Taken);
        let asked = Arc::<AtomicU64>::default();
        let deck = Deck { dice: StdRng::seed_from_u64(seed), cards: Vec::new() };
        let till =
            PaymentServiceServer::new(Till { told, asked: asked.clone(), deck: Mutex::new(deck) });

        let (listener, address) = listener()?;
        let (door, at) = self::listener()?;
        let issuer = format!("http://{at}");
        let router = Issuer::new(issuer.clone(), "taxi").router();
        runtime.spawn(async move { axum::serve(TcpListener::from_std(door)?, router).await });
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(TcpListener::from_std(listener)?);
            let incoming = incoming.with_nodelay(Some(true));
            Server::builder().add_service(till).serve_with_incoming(incoming).await?;
            Result::<()>::Ok(())
        });
        Ok(House { address, issuer, answer, asked, runtime: Some(runtime) })
    }

    /// From now on it answers like this.
    pub(crate) fn tell(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// How often it was asked so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// The stack that driving calls it with: with a breaker and a budget of its own.
    pub(crate) fn client(&self, policy: CallPolicy) -> Result<Client> {
        let tokens = ServiceTokens::new(&self.issuer, "driving", SECRET);
        let stack = unary("pay_fee", balanced(&self.address.to_string())?, tokens, policy);
        Ok(PaymentServiceClient::new(stack))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // A runtime must not be waited for within another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn listener() -> Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

struct Till {
    told: watch::Receiver<Answer>,
    asked: Arc<AtomicU64>,
    deck: Mutex<Deck>,
}

/// A hundred cards in random order, and a new hundred when they are all drawn: by chance, and yet
/// hardly more or less than was asked for.
struct Deck {
    dice: StdRng,
    cards: Vec<bool>,
}

impl Deck {
    /// Whether it is one of so many of a hundred.
    fn draw(&mut self, of_hundred: usize) -> bool {
        if self.cards.is_empty() {
            self.cards.extend((0..100).map(|n| n < of_hundred));
            self.cards.shuffle(&mut self.dice);
        }
        self.cards.pop().unwrap_or_default()
    }
}

#[tonic::async_trait]
impl PaymentService for Till {
    async fn pay_fee(&self, _: Request<PayFeeRequest>) -> Result<Response<Payment>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = *self.told.borrow();
        let fails = match answer {
            Answer::Taken => false,
            Answer::Failure => true,
            Answer::Silence => pending().await,
            Answer::Flaky(percent) => {
                self.deck.lock().unwrap_or_else(PoisonError::into_inner).draw(percent)
            }
        };
        match fails {
            true => Err(Status::unavailable("away")),
            false => {
                Ok(Response::new(Payment { state: State::Approved.into(), ..Payment::default() }))
            }
        }
    }

    async fn get_payment(
        &self,
        _: Request<GetPaymentRequest>,
    ) -> Result<Response<Payment>, Status> {
        Err(only_fees())
    }

    async fn list_payments(
        &self,
        _: Request<ListPaymentsRequest>,
    ) -> Result<Response<ListPaymentsResponse>, Status> {
        Err(only_fees())
    }

    async fn settle_payment(
        &self,
        _: Request<SettlePaymentRequest>,
    ) -> Result<Response<Payment>, Status> {
        Err(only_fees())
    }

    async fn refund_payment(
        &self,
        _: Request<RefundPaymentRequest>,
    ) -> Result<Response<Payment>, Status> {
        Err(only_fees())
    }
}

fn only_fees() -> Status {
    Status::unimplemented("this one takes fees")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_cards_so_many_are_drawn() {
        let mut deck = Deck { dice: StdRng::seed_from_u64(1), cards: Vec::new() };
        for _ in 0..3 {
            let drawn: Vec<bool> = (0..100).map(|_| deck.draw(20)).collect();
            assert_eq!(drawn.iter().filter(|bad| **bad).count(), 20);
            assert!(!drawn.is_sorted());
        }
    }

    #[tokio::test]
    async fn it_answers_as_it_is_told() {
        let house = House::open(1).expect("a house");
        let policy = CallPolicy::once(std::time::Duration::from_secs(20));
        let mut client = house.client(policy).expect("a client");
        let mut ask = async || client.pay_fee(PayFeeRequest::default()).await;
        assert_eq!(ask().await.expect("a payment").get_ref().state(), State::Approved);
        house.tell(Answer::Failure);
        for _ in 0..policy.breaker.consecutive_failures + 1 {
            assert_eq!(ask().await.expect_err("away").code(), tonic::Code::Unavailable);
        }
        assert_eq!(house.asked(), 1 + u64::from(policy.breaker.consecutive_failures));
    }
}
