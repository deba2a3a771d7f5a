//! `taxi demo` on meshes of real processes: a city lives there and checks itself. Apart from the
//! other tests of the mesh, for it measures how long people wait.

mod rides;
mod rolling;
mod terminal;
mod trouble;

use testkit::{Backing, Mesh};

async fn dev(backing: Backing) -> Mesh {
    Mesh::start(env!("CARGO_BIN_EXE_taxi"), backing).await
}

async fn serve() -> Mesh {
    Mesh::serve(env!("CARGO_BIN_EXE_taxi")).await
}
