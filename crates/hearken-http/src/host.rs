//! Names of hosts in addresses.

/// Whether a host's name means this machine.
pub fn is_loopback(name: &str) -> bool {
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `host:port` without the port.
pub fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The host of an address with a scheme.
pub fn host_of(url: &str) -> &str {
    host_name(authority_of(url))
}

/// The `host:port` of an address with a scheme.
pub fn authority_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts() {
        assert_eq!(host_name("localhost:8080"), "localhost");
        assert_eq!(host_name("[::1]:8080"), "[::1]");
        assert!(is_loopback("[::1]") && is_loopback("127.0.0.1") && is_loopback("LOCALHOST"));
        assert!(!is_loopback("localhost.evil.example") && !is_loopback("10.0.0.1"));
        assert_eq!(host_of("https://a.example:8443/x?y"), "a.example");
        assert_eq!(authority_of("https://a.example:8443/x?y"), "a.example:8443");
    }
}
