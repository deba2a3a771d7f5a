//! Plans that are drawn, and how they are asked for.

use rand::SeedableRng;

use super::*;

const LENGTH: Duration = Duration::from_secs(60);

fn drawn(seed: u64, kinds: &str, backing: Backing) -> Plan {
    let kinds = kinds.parse().expect("kinds");
    Plan::draw(&mut StdRng::seed_from_u64(seed), LENGTH, &kinds, backing)
}

#[test]
fn the_same_seed_is_the_same_plan() {
    assert_eq!(drawn(7, "all", Backing::Postgres), drawn(7, "all", Backing::Postgres));
    assert_ne!(drawn(7, "all", Backing::Postgres), drawn(8, "all", Backing::Postgres));
}

#[test]
fn every_kind_comes_and_all_is_over_in_time() {
    for seed in 0..20 {
        let Plan(steps) = drawn(seed, "all", Backing::Postgres);
        let kinds: BTreeSet<Kind> = steps.iter().map(|step| step.fault.kind()).collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
        assert!(steps.iter().all(|step| step.at + step.lasts <= LENGTH));
        assert!(steps.is_sorted_by_key(|step| step.at));
    }
}

#[test]
fn money_is_in_danger_from_all_sides() {
    for seed in 0..20 {
        let Plan(steps) = drawn(seed, "provider,kill", Backing::Postgres);
        let has = |is: fn(&Fault) -> bool| steps.iter().any(|step| is(&step.fault));
        assert!(has(|it| matches!(it, Fault::Provider(Whim::LosesAnswers(_)))), "{seed}");
        assert!(has(|it| matches!(it, Fault::Kill(Victim::Provider))), "{seed}");
        for context in ["payment", "driving"] {
            let killed = steps.iter().any(|step| match step.fault {
                Fault::Kill(Victim::Replica(name)) => name.context == context,
                _ => false,
            });
            assert!(killed, "{seed}: nobody kills {context}");
        }
    }
}

#[test]
fn sqlite_has_one_replica_and_no_server() {
    let Plan(steps) = drawn(1, "all", Backing::Sqlite);
    assert!(!steps.is_empty());
    for step in steps {
        match step.fault {
            Fault::Kill(Victim::Replica(name)) | Fault::Freeze(name) => {
                assert_eq!(name.number, 1);
            }
            Fault::Network { peer, .. } => assert_ne!(peer, Peer::Database),
            Fault::Database(_) | Fault::Scale(_) => panic!("{step}"),
            _ => {}
        }
    }
}

#[test]
fn kinds_are_read() {
    assert_eq!("kill, broker".parse(), Ok(Kinds([Kind::Kill, Kind::Broker].into())));
    assert!(drawn(1, "none", Backing::Postgres).0.is_empty());
    assert!("kill,flood".parse::<Kinds>().expect_err("unknown").contains("\"flood\""));
}
