//! What this node has for a job that was announced: it prices its bid with that, or says why it makes none.

use shoal_protocol::machine::Means;
use shoal_protocol::message::{ImageSource, Needs};
use shoal_protocol::task::Content;
use shoal_store::blobs::{Blobs, Status};

use crate::engine::Containers;

/// What this node has for a job. Inputs that are not named count as missing.
pub(crate) async fn means(blobs: &Blobs, containers: Option<&Containers>, pulls: bool, needs: &Needs) -> Means {
    let data: Vec<Content> = needs.named_data().copied().collect();
    let (mut here, mut data_here) = (0_u64, true);
    for (content, size) in &needs.inputs {
        let status = blobs.status(*content).await;
        data_here &= matches!(status, Ok(Status::Complete { .. })) || !data.contains(content);
        here = here.saturating_add(match status {
            Ok(Status::Complete { .. }) => *size,
            Ok(Status::Partial { bytes }) => bytes.min(*size),
            Ok(Status::Missing) | Err(_) => 0,
        });
    }
    let is_here = has_image(containers, needs).await;
    // What is pulled goes to the disk beside all else.
    let image_bytes = needs.image.filter(|_| !is_here).map_or(0, |image| image.bytes);
    let disk_bytes = needs.resources.disk_bytes.saturating_add(image_bytes);
    Means {
        missing_bytes: needs.input_bytes.saturating_sub(here).saturating_add(image_bytes),
        disk_bytes: blobs.room_for(disk_bytes).await.unwrap_or(0).saturating_sub(image_bytes),
        has_image: is_here || pulls && comes_from_registry(needs),
        data_here,
    }
}

/// Whether this node has the image of a job's containers, gets it from peers, or needs none.
async fn has_image(containers: Option<&Containers>, needs: &Needs) -> bool {
    match (needs.image, containers) {
        (None, _) => true,
        (Some(image), Some(containers)) => containers.has_image(image).await,
        (Some(_), None) => false,
    }
}

fn comes_from_registry(needs: &Needs) -> bool {
    needs.image.is_some_and(|image| image.source == ImageSource::Registry)
}
