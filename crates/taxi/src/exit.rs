//! How the program ends: the published exit codes, and one clear sentence on stderr.
//!
//! | code | when |
//! |---|---|
//! | 0 | done |
//! | 1 | it was tried and failed |
//! | 2 | the command line makes no sense |
//! | 69 | something that is needed is away: the mesh, the broker, a database |
//! | 73 | a file or a directory cannot be written |
//! | 77 | the caller may not do that |
//! | 78 | the configuration is wrong |
//! | 98 | a port is taken |
//! | 130 | interrupted at the terminal |

use std::fmt;
use std::process::ExitCode;

use platform::config::ConfigError;
use platform::telemetry::TelemetryError;

/// An end before the work was done.
#[derive(Debug)]
pub(crate) struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    fn new(code: u8, message: impl Into<String>) -> Exit {
        Exit { code, message: message.into() }
    }

    /// Whoever read our output has gone; there is nothing left to do, and nothing failed.
    pub(crate) fn unread() -> Exit {
        Exit::new(0, "")
    }

    /// It was tried and failed.
    pub(crate) fn failed(message: impl Into<String>) -> Exit {
        Exit::new(1, message)
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Exit {
        Exit::new(2, message)
    }

    /// Something that is needed is away.
    pub(crate) fn unavailable(message: impl Into<String>) -> Exit {
        Exit::new(69, message)
    }

    /// A file or a directory cannot be written.
    pub(crate) fn cannot_create(message: impl Into<String>) -> Exit {
        Exit::new(73, message)
    }

    /// The caller may not do that.
    pub(crate) fn not_allowed(message: impl Into<String>) -> Exit {
        Exit::new(77, message)
    }

    /// The configuration is wrong.
    pub(crate) fn config(message: impl Into<String>) -> Exit {
        Exit::new(78, message)
    }

    /// A port is taken.
    pub(crate) fn port_busy(message: impl Into<String>) -> Exit {
        Exit::new(98, message)
    }

    /// Interrupted at the terminal, where `^C` says enough.
    pub(crate) fn interrupted() -> Exit {
        Exit::new(130, "")
    }

    /// Says why, and turns into what the operating system sees.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("taxi: {self}");
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for Exit {
    fn from(error: ConfigError) -> Exit {
        Exit::config(error.to_string())
    }
}

impl From<TelemetryError> for Exit {
    fn from(error: TelemetryError) -> Exit {
        Exit::config(error.to_string())
    }
}
