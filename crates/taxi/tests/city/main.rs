//! `taxi demo` on meshes of real processes: a city lives there and checks itself. Apart from the
//! other tests of the mesh, for it measures how long people wait.

mod double;
mod lived;
mod rides;
mod rolling;
mod terminal;
mod trouble;
mod upgrade;

use testkit::{Backing, Mesh};

/// The program under test.
const TAXI: &str = env!("CARGO_BIN_EXE_taxi");

async fn dev(backing: Backing) -> Mesh {
    Mesh::start(TAXI, backing).await
}

async fn serve() -> Mesh {
    Mesh::serve(TAXI).await
}
