//! Real nodes on loopback, in real time.

use shoal_simnet::mesh::{self, MeshSetup};

#[tokio::test(flavor = "multi_thread")]
async fn real_nodes_complete_jobs_in_a_calm_world() {
    let calm = mesh::named("calm").expect("real nodes can run it");
    let report = Box::pin(mesh::run(&calm, MeshSetup { nodes: 4, jobs: 4, seed: 7, shard_nodes: 256 }))
        .await
        .expect("it takes place");
    assert!(report.is_good(), "{}", report.table());
    assert_eq!((report.latency_ms.count, report.outcomes.get("Completed")), (4, Some(&4)), "{}", report.table());
    assert!(report.executions.p50 >= 2, "{}", report.table());
}

#[tokio::test]
async fn what_real_nodes_cannot_run_is_refused_with_what_they_can() {
    for (name, why) in [("liars", "`simnet run --scenario liars`"), ("warp", "no scenario \"warp\"")] {
        let error = mesh::named(name).expect_err("real nodes cannot run it").to_string();
        assert!(error.contains(why) && error.ends_with("calm, crashes, churn"), "{error}");
    }
    let calm = mesh::named("calm").expect("real nodes can run it");
    let error = Box::pin(mesh::run(&calm, MeshSetup { nodes: 3, jobs: 1, seed: 1, shard_nodes: 256 }))
        .await
        .expect_err("three are too few");
    assert!(error.to_string().contains("--nodes 4"), "{error}");
}
