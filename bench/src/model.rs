//! The sentence model with which benchmarks make vectors.

use std::path::Path;
use std::sync::Arc;

use aosk_llm::SentenceModel;
use aosk_ports::Embedder;

use crate::report::Failure;

/// The model in a folder.
pub fn open(folder: &Path) -> Result<Arc<dyn Embedder>, Failure> {
    let model = SentenceModel::open(folder).map_err(|error| {
        format!("{error}. Run scripts/minilm.sh, and give the folder that it prints as --model")
    })?;
    Ok(Arc::new(model))
}
