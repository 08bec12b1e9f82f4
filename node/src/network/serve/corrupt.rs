//! For tests, in debug builds only: answers with something else than was asked for. The last byte is another.

use iroh::endpoint::Connection;
use iroh_blobs::api::Store;
use iroh_blobs::protocol::Request;

/// Serves a connection until it is closed.
pub(super) async fn serve(connection: &Connection, store: &Store) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let Ok((Request::Get(request), _)) = Request::read_async(&mut receive).await else { continue };
        let (blob, ranges) = (request.hash, request.ranges[0].clone());
        let mut answer = store.blobs().export_bao(blob, ranges).bao_to_vec().await.unwrap_or_default();
        if let Some(last) = answer.last_mut() {
            *last ^= 1;
        }
        let _ = send.write_all(&answer).await;
        let _ = send.finish();
    }
}
