//! Tables of layouts, and what every plan holds to whatever the layout.

use proptest::prelude::*;

use super::*;

fn site(id: NodeId, rack: &str) -> Site {
    Site { id, rack: rack.to_owned(), takes_replicas: true }
}

fn layout(all: &[&[NodeId]]) -> Layout<usize> {
    all.iter().enumerate().map(|(key, replicas)| (key, replicas.to_vec())).collect()
}

fn applied(before: &Layout<usize>, changes: &Layout<usize>) -> Layout<usize> {
    let mut after = before.clone();
    after.extend(changes.clone());
    after
}

fn counts(sites: &[Site], layout: &Layout<usize>) -> Vec<(NodeId, usize, usize)> {
    let of = |id| {
        let replicas = layout.values().filter(|replicas| replicas.contains(&id)).count();
        let leads = layout.values().filter(|replicas| replicas.first() == Some(&id)).count();
        (id, replicas, leads)
    };
    sites.iter().map(|site| of(site.id)).collect()
}

#[test]
fn a_leaving_broker_is_replaced_by_the_one_with_the_fewest() {
    let sites = [site(1, ""), site(2, ""), site(3, ""), site(4, "")];
    let before = layout(&[&[1, 2], &[2, 1], &[1, 3]]);
    let changes = decommission(&sites, &before, 1).unwrap();
    let after = applied(&before, &changes);
    assert_eq!(counts(&sites, &after), [(1, 0, 0), (2, 2, 1), (3, 2, 1), (4, 2, 1)]);
}

#[test]
fn a_leaving_broker_is_replaced_in_its_rack_when_the_others_are_used() {
    let sites = [site(1, "a"), site(2, "b"), site(3, "a"), site(4, "b")];
    let changes = decommission(&sites, &layout(&[&[2, 1]]), 1).unwrap();
    assert_eq!(changes, layout(&[&[2, 3]]));
}

#[test]
fn a_broker_cannot_leave_when_too_few_would_stay() {
    let mut sites = [site(1, ""), site(2, ""), site(3, "")];
    sites[2].takes_replicas = false;
    let error = decommission(&sites, &layout(&[&[1, 2]]), 1).unwrap_err();
    assert_eq!(error, PlanError::TooFewBrokers { leaving: 1, replicas: 2, left: 1 });
}

#[test]
fn an_empty_broker_gets_its_share_and_nothing_else_moves() {
    let sites = [site(1, ""), site(2, ""), site(3, "")];
    let before = layout(&[&[1, 2], &[2, 1], &[1, 2], &[2, 1], &[1, 2], &[2, 1]]);
    let changes = rebalance(&sites, &before);
    let after = applied(&before, &changes);
    assert_eq!(counts(&sites, &after), [(1, 4, 2), (2, 4, 2), (3, 4, 2)]);
    let moved: usize = after.iter().map(|(key, new)| new.iter().filter(|id| !before[key].contains(id)).count()).sum();
    assert_eq!(moved, 4);
}

#[test]
fn replicas_of_one_rack_are_spread() {
    let sites = [site(1, "a"), site(2, "a"), site(3, "b")];
    let changes = rebalance(&sites, &layout(&[&[1, 2]]));
    assert!(changes[&0].contains(&3), "{changes:?}");
}

#[test]
fn replicas_are_added_in_other_racks_and_taken_from_shared_ones() {
    let sites = [site(1, "a"), site(2, "a"), site(3, "b"), site(4, "b")];
    let grown = resize(&sites, &layout(&[&[1], &[2], &[3, 1]]), 2).unwrap();
    assert_eq!(grown, layout(&[&[1, 4], &[2, 3]]));
    let shrunk = resize(&sites, &layout(&[&[1, 3, 2], &[2, 3]]), 2).unwrap();
    assert_eq!(shrunk, layout(&[&[1, 3]]));
    assert_eq!(resize(&sites, &layout(&[&[1]]), 5), Err(4));
}

#[test]
fn what_is_even_stays() {
    let sites = [site(1, "a"), site(2, "b"), site(3, "c")];
    assert_eq!(rebalance(&sites, &layout(&[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]])), Layout::new());
}

#[test]
fn ten_thousand_partitions_are_planned_at_once() {
    let sites = [site(1, ""), site(2, ""), site(3, ""), site(4, "")];
    let before: Layout<usize> = (0..10_000).map(|key| (key, vec![1, 2, 3])).collect();
    let changes = rebalance(&sites, &before);
    let after = applied(&before, &changes);
    assert_eq!(counts(&sites, &after), [1, 2, 3, 4].map(|id| (id, 7500, 2500)));
    let moved = after.iter().filter(|(key, new)| new.iter().any(|id| !before[key].contains(id))).count();
    assert_eq!(moved, 7500);
}

fn clusters() -> impl Strategy<Value = (Vec<Site>, Layout<usize>)> {
    (3_i32..8, 1_usize..4, 1_usize..4).prop_flat_map(|(brokers, racks, factor)| {
        let ids: Vec<NodeId> = (1..=brokers).collect();
        let replicas = Just(ids.clone()).prop_shuffle().prop_map(move |ids| ids[..factor].to_vec());
        let sites: Vec<Site> =
            ids.iter().map(|id| site(*id, &format!("r{}", usize::try_from(*id).unwrap() % racks))).collect();
        let layout = prop::collection::vec(replicas, 0..30).prop_map(|all| all.into_iter().enumerate().collect());
        (Just(sites), layout)
    })
}

fn distinct_racks(sites: &[Site], replicas: &[NodeId]) -> usize {
    let racks: BTreeSet<&str> =
        sites.iter().filter(|site| replicas.contains(&site.id)).map(|site| site.rack.as_str()).collect();
    racks.len()
}

fn check_plan(sites: &[Site], before: &Layout<usize>, after: &Layout<usize>) -> Result<(), TestCaseError> {
    for (key, replicas) in after {
        let unique: BTreeSet<_> = replicas.iter().collect();
        prop_assert_eq!(unique.len(), before[key].len(), "{:?}", replicas);
        prop_assert!(sites.iter().filter(|site| replicas.contains(&site.id)).count() == replicas.len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_decommissioned_broker_keeps_nothing((sites, before) in clusters()) {
        let factor = before.values().map(Vec::len).max().unwrap_or(0);
        match decommission(&sites, &before, 1) {
            Ok(changes) => {
                let after = applied(&before, &changes);
                check_plan(&sites, &before, &after)?;
                prop_assert!(after.values().all(|replicas| !replicas.contains(&1)));
                prop_assert!(changes.keys().all(|key| before[key].contains(&1)), "others stay");
            }
            Err(_) => prop_assert!(factor >= sites.len()),
        }
    }

    #[test]
    fn a_rebalanced_cluster_is_even_in_racks_and_numbers((sites, before) in clusters()) {
        let after = applied(&before, &rebalance(&sites, &before));
        check_plan(&sites, &before, &after)?;
        let racks: BTreeSet<&str> = sites.iter().map(|site| site.rack.as_str()).collect();
        for replicas in after.values() {
            prop_assert_eq!(distinct_racks(&sites, replicas), racks.len().min(replicas.len()), "{:?}", replicas);
        }
        if racks.len() == 1 {
            let loads: Vec<usize> = counts(&sites, &after).into_iter().map(|(_, replicas, _)| replicas).collect();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{:?}", loads);
        }
        prop_assert_eq!(rebalance(&sites, &after), Layout::new(), "a second time there is nothing to do");
    }
}
