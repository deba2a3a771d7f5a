//! proto3 JSON, both directions.
//!
//! prost-reflect writes and reads the JSON of `Timestamp`, `Duration`, `FieldMask`, `Struct`,
//! `Value` and `ListValue` for us. Messages, scalars, wrappers and `Any` we do here, because the
//! door has to do with them what a general library does not: name the field that is at fault,
//! refuse a field that is given twice, take `"1e3"` but not `"inf"`, write `NaN` inside a wrapper,
//! and write the fields that are not set.

mod read;
mod strict;
mod write;

pub(crate) use read::{field, message};
pub(crate) use strict::parse;
pub(crate) use write::{AnyJson, FieldJson, Json};
