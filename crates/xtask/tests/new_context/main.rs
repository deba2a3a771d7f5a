//! Who follows the how-to pages word for word ends with passing tests: a copy of this repository gets
//! a context and a fare policy, and is built, tested and served.

mod copy;
mod page;
#[path = "../../src/new_context/patch.rs"]
mod patch;

use crate::copy::Copy;
use crate::page::Page;

#[test]
fn who_follows_the_pages_ends_with_passing_tests() {
    let copy = Copy::of_this_repository();
    let fare = Page::read(&copy, "docs/guide/how-to/add-a-fare-policy.md");
    let context = Page::read(&copy, "docs/guide/how-to/add-a-context.md");
    // The files of both come first, so that everything is built once.
    fare.edit(&copy);
    context.edit(&copy);
    context.run(&copy);
    fare.run(&copy);

    copy.run_tool("buf", "lint", "");
    let chart = "template taxi deploy/helm/taxi";
    copy.run_tool("helm", chart, "args: [serve, rating]");
    let production = format!("{chart} -f deploy/helm/taxi/ci/production.yaml");
    copy.run_tool("helm", &production, "name: taxi-db-rating-app");
}
