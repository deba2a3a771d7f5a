//! Made-up messages and requests, from a seed, and a door to try them at.

pub(crate) mod attack;
pub(crate) mod echo;
pub(crate) mod messages;
pub(crate) mod near;
