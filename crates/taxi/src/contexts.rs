//! THE list of contexts: the only file that knows them all. A new context is a new [`Name`], and the
//! compiler asks for the rest: its port, its database, its migrations, how it starts.

use std::fmt;

use driving::clients::PaymentClient;
use kernel::Clock;
use platform::broker::Broker;
use platform::db::{Db, DbConfig};
use platform::metrics::Figure;
use platform::rebuild::{RebuildError, Report};
use platform::server::Routes;
use sea_orm::DbErr;

pub(crate) use allocation::Config as AllocationConfig;
pub(crate) use dashboard::Config as DashboardConfig;
pub(crate) use driving::FareConfig;
pub(crate) use message::{Config as MessageConfig, ParkedEvents as ParkedMessages};
pub(crate) use payment::Config as PaymentConfig;

use crate::config::{Databases, Listen, Settings, Upstream};
use crate::exit::Exit;
use crate::mesh::Mesh;

/// A bounded context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Name {
    /// Asks for cars.
    Allocation,
    /// Drives.
    Driving,
    /// Takes the fee.
    Payment,
    /// Shows rides as a whole.
    Dashboard,
    /// Tells customers.
    Message,
}

impl Name {
    /// All of them.
    pub(crate) const ALL: [Name; 5] =
        [Name::Allocation, Name::Driving, Name::Payment, Name::Dashboard, Name::Message];

    /// Its name in subjects, configuration and commands.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Name::Allocation => allocation::NAME,
            Name::Driving => driving::NAME,
            Name::Payment => payment::NAME,
            Name::Dashboard => dashboard::NAME,
            Name::Message => message::NAME,
        }
    }

    /// Its port.
    pub(crate) fn port(self, listen: &Listen) -> u16 {
        match self {
            Name::Allocation => listen.allocation,
            Name::Driving => listen.driving,
            Name::Payment => listen.payment,
            Name::Dashboard => listen.dashboard,
            Name::Message => listen.message,
        }
    }

    /// Where others find it.
    pub(crate) fn upstream(self, upstream: &Upstream) -> &str {
        match self {
            Name::Allocation => &upstream.allocation,
            Name::Driving => &upstream.driving,
            Name::Payment => &upstream.payment,
            Name::Dashboard => &upstream.dashboard,
            Name::Message => &upstream.message,
        }
    }

    /// Its database; messages live in the broker.
    pub(crate) fn database(self, databases: &Databases) -> Option<&DbConfig> {
        match self {
            Name::Allocation => Some(&databases.allocation),
            Name::Driving => Some(&databases.driving),
            Name::Payment => Some(&databases.payment),
            Name::Dashboard => Some(&databases.dashboard),
            Name::Message => None,
        }
    }

    /// Its database, to be set.
    pub(crate) fn database_mut(self, databases: &mut Databases) -> Option<&mut DbConfig> {
        match self {
            Name::Allocation => Some(&mut databases.allocation),
            Name::Driving => Some(&mut databases.driving),
            Name::Payment => Some(&mut databases.payment),
            Name::Dashboard => Some(&mut databases.dashboard),
            Name::Message => None,
        }
    }

    /// Whether it tells others what happens.
    pub(crate) fn has_events(self) -> bool {
        match self {
            Name::Allocation | Name::Driving | Name::Payment => true,
            Name::Dashboard | Name::Message => false,
        }
    }

    /// Brings its schema up to date; says which migrations were applied.
    pub(crate) async fn migrate(self, db: &Db) -> Result<Vec<String>, DbErr> {
        match self {
            Name::Allocation => db.migrate::<allocation::migration::Migrations>().await,
            Name::Driving => db.migrate::<driving::migration::Migrations>().await,
            Name::Payment => db.migrate::<payment::migration::Migrations>().await,
            Name::Dashboard => db.migrate::<dashboard::Migrations>().await,
            Name::Message => Ok(Vec::new()),
        }
    }

    /// Whether its database answers and has the schema it needs.
    pub(crate) async fn is_ready(self, db: &Db) -> Result<bool, DbErr> {
        match self {
            Name::Allocation => db.ready::<allocation::migration::Migrations>().await,
            Name::Driving => db.ready::<driving::migration::Migrations>().await,
            Name::Payment => db.ready::<payment::migration::Migrations>().await,
            Name::Dashboard => db.ready::<dashboard::Migrations>().await,
            Name::Message => Ok(true),
        }
    }

    /// What stands in its tables, for whoever collects metrics.
    pub(crate) fn figures(self, settings: &Settings) -> Vec<Figure> {
        match self {
            Name::Allocation => allocation::figures(),
            Name::Driving => driving::figures(),
            Name::Payment => payment::figures(),
            Name::Dashboard => dashboard::figures(&settings.dashboard),
            Name::Message => Vec::new(),
        }
    }

    /// Starts its tasks; answers what it serves, and the database it works on.
    pub(crate) async fn start(
        self,
        mesh: &Mesh,
        broker: Broker,
    ) -> Result<(Routes, Option<Db>), Exit> {
        let settings = &mesh.settings;
        Ok(match self {
            Name::Allocation => {
                let cx = mesh.context(self, broker).await?;
                (allocation::start(&cx, settings.allocation.clone()), Some(cx.db))
            }
            Name::Driving => {
                let cx = mesh.context(self, broker).await?;
                let payment = mesh.tls.neighbour(Name::Payment, &settings.upstream)?;
                let payments = PaymentClient::new(payment, mesh.tokens(), settings.pay_fee()?);
                let config = driving::Config {
                    fare: settings.fare.clone(),
                    payment_deadline: settings.payment.deadline,
                };
                (driving::start(&cx, config, payments), Some(cx.db))
            }
            Name::Payment => {
                let cx = mesh.context(self, broker).await?;
                (payment::start(&cx, settings.payment.clone()), Some(cx.db))
            }
            Name::Dashboard => {
                let cx = mesh.context(self, broker).await?;
                (dashboard::start(&cx, settings.dashboard.clone()), Some(cx.db))
            }
            Name::Message => {
                let config = settings.message.clone();
                (message::start(&broker, mesh.clock.clone(), &mesh.work, config), None)
            }
        })
    }
}

/// A context that keeps a view, which is nothing but its events.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum View {
    /// Of rides.
    Dashboard,
}

impl View {
    /// Whose it is.
    pub(crate) fn name(self) -> Name {
        match self {
            View::Dashboard => Name::Dashboard,
        }
    }

    /// Compares it with what its events make of it; replaces what differs if `apply`.
    pub(crate) async fn rebuild(
        self,
        broker: &Broker,
        db: &Db,
        config: &DbConfig,
        clock: &dyn Clock,
        apply: bool,
    ) -> Result<Report, RebuildError> {
        match self {
            View::Dashboard => dashboard::rebuild(broker, db, config, clock, apply).await,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
