//! Networks of one container each, with a way out: what `Bridge` gives.

use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::ListNetworksOptionsBuilder;

use super::super::container::{EXECUTION_LABEL, NODE_LABEL};
use super::super::engine::{Engine, is_missing, plain};

/// Whether containers of the network may talk to each other: there should be one only.
const ICC: &str = "com.docker.network.bridge.enable_icc";

/// Makes one that is called `name`, and returns its id.
pub(super) async fn make(engine: &Engine, name: String, labels: HashMap<String, String>) -> Result<String, String> {
    let request = NetworkCreateRequest {
        name,
        driver: Some("bridge".into()),
        internal: Some(false),
        attachable: Some(false),
        enable_ipv6: Some(false),
        options: Some(HashMap::from([(ICC.to_owned(), "false".to_owned())])),
        labels: Some(labels),
        ..NetworkCreateRequest::default()
    };
    engine.client.create_network(request).await.map(|made| made.id).map_err(|error| plain(&error))
}

/// Removes one; returns whether it is gone.
pub(in super::super) async fn remove(engine: &Engine, id: &str) -> bool {
    match engine.client.remove_network(id).await {
        Err(error) if !is_missing(&error) => {
            tracing::warn!(network = id, error = plain(&error), "a network is not removed yet");
            false
        }
        _ => true,
    }
}

/// The networks of a node, each with its execution.
pub(in super::super) async fn of_node(engine: &Engine, node: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let filter = HashMap::from([("label".to_owned(), vec![format!("{NODE_LABEL}={node}")])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filter).build();
    let found = engine.client.list_networks(Some(options)).await.map_err(|error| plain(&error))?;
    let execution = |labels: Option<HashMap<String, String>>| labels?.remove(EXECUTION_LABEL);
    Ok(found.into_iter().filter_map(|network| Some((network.id?, execution(network.labels)))).collect())
}
