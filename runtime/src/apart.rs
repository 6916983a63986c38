//! Work on a thread of its own, for services whose work must not wait for requests.

/// Has `work` done on a thread called `name`, which brings a runtime of its own, and waits for its end.
///
/// # Errors
/// Those of `work`; when no thread can be had, or it panicked.
pub async fn apart(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody waits any more only when the process ends.
            ended.send(work()).ok();
        })?;
    end.await?
}
