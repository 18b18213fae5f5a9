//! Which of a host's threads come first where the machine is full: those that tick rooms.

/// How much a thread gives way: what it does may come a little later. Ticks don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// What sends and receives. What is late here is late by some milliseconds, as on any network. There are many of these threads where there are
    /// many members: where they gave way by a little, by 4, together they got more of a full machine than the rooms did, whose ticks then were ten times as
    /// late (`capacity`, 300 rooms of four bots on two cores).
    Packets = 12,
    /// Rooms that take long, and what is read from the store.
    Aside = 14,
    /// Players of a measurement: they have machines of their own elsewhere, and take what the server leaves of this one.
    #[cfg(feature = "client")]
    Players = 19,
}

/// Lets this thread give way to those that tick rooms.
pub(crate) fn give_way(priority: Priority) {
    // On Linux this is about the thread alone; elsewhere it would be about the process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, priority as i32) {
        // What forbids it to one thread forbids it to all.
        static TOLD: std::sync::Once = std::sync::Once::new();
        TOLD.call_once(|| tracing::warn!(%error, "threads can't give way to those that tick rooms: is setpriority forbidden?"));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = priority;
}
