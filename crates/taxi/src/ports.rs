//! Ports: bound before anything starts, and a sentence when one is taken.

use std::fs;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::exit::Exit;

/// Listens; `what` is who wants to, `advice` what to do when the port is taken.
pub(crate) async fn bind(
    address: SocketAddr,
    what: &str,
    advice: &str,
) -> Result<TcpListener, Exit> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            let owner = owner(port).unwrap_or_else(|| "another process".to_owned());
            Exit::port_busy(format!(
                "port {port}, which {what} wants, is in use by {owner}: stop that, or {advice}"
            ))
        }
        io::ErrorKind::PermissionDenied => {
            Exit::not_allowed(format!("{what} may not listen on {address}: {error}"))
        }
        _ => Exit::config(format!("{what} cannot listen on {address}: {error}")),
    })
}

/// Where it listens, as somebody on this machine reaches it.
pub(crate) fn address(listener: &TcpListener) -> Result<SocketAddr, Exit> {
    let mut address =
        listener.local_addr().map_err(|error| Exit::failed(format!("no address: {error}")))?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

/// Who listens on a port: `nginx (process 123)`. Nobody knows where there is no `/proc`, or when it
/// belongs to another user.
fn owner(port: u16) -> Option<String> {
    let socket = format!("socket:[{}]", listening_socket(port)?);
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(id) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        if links.any(|link| link.as_os_str() == socket.as_str()) {
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            return Some(format!("{} (process {id})", name.trim()));
        }
    }
    None
}

/// The inode of the socket that listens on a port.
fn listening_socket(port: u16) -> Option<String> {
    const LISTENING: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter();
    let tables: Vec<String> = tables.filter_map(|table| fs::read_to_string(table).ok()).collect();
    let suffix = format!(":{port:04X}");
    // sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let ours = columns.get(1)?.ends_with(&suffix) && *columns.get(3)? == LISTENING;
        ours.then(|| columns.get(9).map(ToString::to_string))?
    };
    tables.iter().flat_map(|table| table.lines()).find_map(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_explained() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = bind(any, "allocation", "").await.expect("a port");
        let taken = address(&first).expect("an address");
        let refused = bind(taken, "driving", "use `--random-ports`").await.expect_err("taken");
        let sentence = refused.to_string();
        assert!(
            sentence.starts_with(&format!("port {}, which driving", taken.port())),
            "{sentence}"
        );
        assert!(sentence.ends_with("or use `--random-ports`"), "{sentence}");
        if cfg!(target_os = "linux") {
            let ours = format!("(process {})", std::process::id());
            assert!(sentence.contains(&ours), "{sentence}");
        }
    }
}
