//! Who asks, and why a change happens.

use uuid::Uuid;

/// What somebody is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Asks for cars and pays.
    Customer,
    /// Accepts and drives.
    Driver,
    /// Looks after the whole service.
    Operator,
    /// One of our own contexts.
    Service,
}

impl Role {
    /// All roles, in the order of the documentation.
    pub const ALL: [Role; 4] = [Role::Customer, Role::Driver, Role::Operator, Role::Service];

    /// The role's name in tokens and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Customer => "customer",
            Role::Driver => "driver",
            Role::Operator => "operator",
            Role::Service => "service",
        }
    }
}

/// Somebody who asks for something: an authenticated subject in one of our roles.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// In which role.
    pub role: Role,
    /// The subject of the token, or the name of the context whose policy acts.
    pub subject: String,
}

impl Actor {
    /// One of our own contexts, as the actor behind a policy or a timer.
    pub fn service(context: &str) -> Actor {
        Actor { role: Role::Service, subject: context.to_owned() }
    }
}

/// Why a change happens. One mechanism serves four needs: idempotent commands, idempotent
/// consumers, the correlation key and the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The client's request id for a command, the event's id for a policy.
    pub id: Uuid,
    /// Who asks. Two actors never share a cause, whatever ids they choose.
    pub actor: Actor,
    /// What was asked, as a digest: the same id with another digest is a client's mistake.
    pub fingerprint: String,
    /// The W3C `traceparent` under which it happens.
    pub trace: Option<String>,
    /// For a policy: where the event stands in the history of the aggregate it came from.
    pub origin: Option<Origin>,
}

impl Cause {
    /// A change that a context makes of its own accord.
    pub fn own(id: Uuid, context: &str) -> Cause {
        let actor = Actor::service(context);
        Cause { id, actor, fingerprint: String::new(), trace: None, origin: None }
    }
}

/// The place of an event in the history of its aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The aggregate it happened to.
    pub aggregate: Uuid,
    /// Its number there: 1..n without a gap.
    pub version: i64,
}
