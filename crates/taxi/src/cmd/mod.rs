//! The commands, one a file: `Args` is what the command line says, `run` does it.

pub(crate) mod call;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod describe;
pub(crate) mod dev;
pub(crate) mod issuer;
pub(crate) mod list;
pub(crate) mod migrate;
pub(crate) mod provider_sim;
pub(crate) mod serve;
pub(crate) mod token;
