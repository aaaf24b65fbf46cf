//! What the system says of the machine and of this process.

/// The processor's name, or its architecture where the system does not tell.
pub fn processor() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = cpus.lines().filter_map(|line| line.split_once(':'));
    let name = lines.find(|(key, _)| key.trim() == "model name");
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim())
        .to_owned()
}

/// The largest resident memory of this process so far, or since [`forget_peak_memory`], in bytes, where
/// the system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kibibytes)
}

/// Lets [`peak_memory`] begin anew, where the system can.
pub fn forget_peak_memory() {
    // Where it can't, the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
