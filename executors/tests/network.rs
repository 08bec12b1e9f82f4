//! Whom containers reach on a real engine, whom they do not, and that nothing of their networks stays.
//!
//! Where no engine runs these tests say so and are skipped.

#[path = "support/containers.rs"]
mod bench;
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bench::engine::{containers, docker};
use bench::{Bench, MIB, config, networks};
use shoal_executors::docker::{HolderProgram, NetworkConfig};
use shoal_executors::{DockerConfig, DockerExecutor, RunError};
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::task::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ALL: [NetworkKind; 3] = [NetworkKind::Http, NetworkKind::Bridge, NetworkKind::Host];

fn http(domains: &[&str]) -> Network {
    Network::Http(domains.iter().map(|&domain| domain.to_owned()).collect())
}

/// A server on all addresses of this machine, which says what it was asked: `/away` leads to another host, and `/much`
/// has no end.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 4_096];
                let read = stream.read(&mut head).await?;
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                if head.starts_with("GET /away ") {
                    let away = "HTTP/1.1 302 Found\r\nLocation: http://away.example/\r\nContent-Length: 0\r\n\r\n";
                    return stream.write_all(away.as_bytes()).await;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello from outside\n").await?;
                while head.starts_with("GET /much ") {
                    stream.write_all(&[b'x'; 65_536]).await?;
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    address
}

/// This machine's own address, as its neighbours see it.
fn own_address() -> String {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // Nothing is sent.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_http_asks_the_hosts_of_its_job_through_the_node() {
    let Some(mut bench) = Bench::open(&ALL, true).await else { return };
    bench.network = http(&["localhost"]);
    let port = server().await.port();
    let ended = bench.sh(&format!("ls /sys/class/net; wget -q -O - http://localhost:{port}/")).await.unwrap().exits(0);
    assert_eq!(ended.stdout(), "lo\nhello from outside\n");
    assert_eq!(ended.stderr(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_in_the_programs_log() {
    let Some(mut bench) = Bench::open(&ALL, true).await else { return };
    bench.network = http(&["localhost"]);
    let port = server().await.port();
    let script = format!(
        "wget -q -O - http://other.example/ ; wget -q -O - http://localhost:{port}/away; wget -q -O - http://localhost:22/
         printf 'CONNECT other.example:443 HTTP/1.1\\r\\n\\r\\n' | nc 127.0.0.1 3128; printf 'no line' >&2
         printf 'GET http://10.0.0.1/ HTTP/1.1\\r\\n\\r\\n' | nc 127.0.0.1 3128 | head -1"
    );
    let ended = bench.sh(&script).await.unwrap().exits(0);
    let refused: Vec<_> =
        ended.stderr().lines().filter(|line| line.starts_with("shoal: ")).map(str::to_owned).collect();
    let expected = [
        "shoal: refused GET other.example:80: not one of the job's domains",
        "shoal: refused GET away.example:80: not one of the job's domains",
        "shoal: refused GET localhost:22: port 22 is neither 80, 443 nor above 1023",
        "shoal: refused CONNECT other.example:443: not one of the job's domains",
        "shoal: refused GET 10.0.0.1:80: not one of the job's domains",
    ];
    assert_eq!(refused, expected, "{}", ended.stderr());
    assert!(ended.stdout().contains("HTTP/1.1 403 Forbidden"), "{}", ended.stdout());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_http_reaches_nobody_else() {
    let Some(mut bench) = Bench::open(&ALL, true).await else { return };
    let other = docker(&["run", "-d", "--rm", "shoal-test/busybox:1", "httpd", "-f", "-h", "/etc"]).unwrap();
    let format = "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}}";
    let addresses = docker(&["inspect", "--format", format, &other]).unwrap();
    let (neighbour, gateway) = addresses.split_once(' ').unwrap();
    let (own, port) = (own_address(), server().await.port());
    bench.network = http(&["localhost"]);
    let hosts = format!("{own}:{port} {gateway}:{port} {neighbour}:80 169.254.169.254:80 1.1.1.1:80 127.0.0.1:{port}");
    let script = format!(
        "for host in {hosts}; do
             echo | nc -w 2 ${{host%:*}} ${{host#*:}} >/dev/null 2>&1 && echo reached $host
             env -u http_proxy wget -q -O - http://$host/ && echo asked $host
             wget -q -O - http://$host/ && echo asked $host through the node
         done
         nslookup example.org 2>&1 | grep -A1 Name:
         nslookup example.org {gateway} 2>&1 | grep -A1 Name:
         ip route; ip -4 addr | grep 'inet '; true"
    );
    let told = bench.sh(&script).await.unwrap().exits(0).stdout();
    docker(&["rm", "-f", &other]).unwrap();
    assert_eq!(told.trim(), "inet 127.0.0.1/8 scope host lo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_name_does_not_lead_to_this_machine_unless_the_operator_allows_it() {
    let Some(mut bench) = Bench::open(&ALL, false).await else { return };
    let (port, own) = (server().await.port(), own_address());
    bench.network = http(&["localhost", "127.0.0.1", "169.254.169.254", &own]);
    // Public or not, what this machine calls its own is not elsewhere.
    let hosts = ["localhost", "127.0.0.1", &own].map(|host| format!("{host}:{port}"));
    for host in hosts.iter().map(String::as_str).chain(["169.254.169.254"]) {
        let ended = bench.sh(&format!("wget -q -O - http://{host}/")).await.unwrap().exits(1);
        assert!(ended.stderr().contains("which is no public address of another machine"), "{}", ended.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_sends_and_receives_is_bounded_by_its_disk() {
    let Some(mut bench) = Bench::open(&ALL, true).await else { return };
    bench.network = http(&["localhost"]);
    let port = server().await.port();
    let ended = bench.sh(&format!("wget -q -O - http://localhost:{port}/much | wc -c")).await.unwrap();
    let received: u64 = ended.stdout().trim().parse().unwrap();
    assert!((7 * MIB..=8 * MIB).contains(&received), "{received}");
    let told = "shoal: refused more: what the job sends and receives has reached its Disk";
    assert!(ended.stderr().contains(told), "{}", ended.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_the_job_come_before_those_of_its_network() {
    let Some(mut bench) = Bench::open(&ALL, false).await else { return };
    bench.network = http(&["example.org"]);
    bench.environment.insert("http_proxy".into(), "http://mine:1".into());
    let told = bench.sh("echo $http_proxy $https_proxy").await.unwrap().exits(0).stdout();
    assert_eq!(told, "http://mine:1 http://127.0.0.1:3128\n");
    bench.network = Network::None;
    assert_eq!(bench.sh("echo $https_proxy").await.unwrap().exits(0).stdout(), "\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_is_a_networks_own_and_goes_with_its_container() {
    let Some(mut bench) = Bench::open(&ALL, false).await else { return };
    bench.network = Network::Bridge;
    let port = server().await.port();
    let script = format!("ls /sys/class/net; echo GET | nc -w 5 {} {port} | tail -1", own_address());
    let told = bench.sh(&script).await.unwrap().exits(0).stdout();
    assert_eq!(told, "eth0\nlo\nhello from outside\n", "it leads to the machine and beyond");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_network_is_all_of_it() {
    let Some(mut bench) = Bench::open(&ALL, false).await else { return };
    bench.network = Network::Host;
    let port = server().await.port();
    let told = bench.sh(&format!("echo GET | nc -w 5 127.0.0.1 {port} | tail -1")).await.unwrap().exits(0).stdout();
    assert_eq!(told, "hello from outside\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_network_is_given_that_the_operator_has_not_opened() {
    let Some(mut bench) = Bench::open(&[], false).await else { return };
    for (network, name) in [(http(&["example.org"]), "HTTP"), (Network::Bridge, "Bridge"), (Network::Host, "Host")] {
        bench.network = network;
        let error = bench.run(&["true"]).await.unwrap_err();
        let expected = format!("declined: its operator gives containers no network of type {name}");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_takes_its_network_along() {
    let Some(mut bench) = Bench::open(&ALL, false).await else { return };
    for network in [http(&["example.org"]), Network::Bridge] {
        bench.network = network;
        bench.cancel = tokio_util::sync::CancellationToken::new();
        let (cancel, label) = (bench.cancel.clone(), format!("label={}", bench.label()));
        let sleeping = || docker(&["ps", "--format", "{{.Command}}", "--filter", &label]);
        let (ended, ()) = tokio::join!(bench.run(&["sleep", "1000"]), async {
            while !sleeping().unwrap_or_default().contains("sleep") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cancel.cancel();
        });
        assert!(matches!(ended.unwrap_err(), RunError::Cancelled));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_that_were_left_go_when_the_engine_comes_back_and_no_others() {
    let Some(bench) = Bench::open(&ALL, false).await else { return };
    let other = format!("{}-other", bench.label());
    let make = |label: &str| docker(&["network", "create", "--label", label, &label.replace('=', "-")]).unwrap();
    make(&bench.label());
    make(&other);
    DockerExecutor::new(DockerConfig { node: bench.node.clone(), ..config() }).look().await.unwrap();
    assert_eq!(networks(&bench.label()), Vec::<String>::new());
    assert_eq!(networks(&other).len(), 1);
    docker(&["network", "rm", &other.replace('=', "-")]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_cannot_hand_sockets_over_gives_no_http() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    // One of containerd's, which engines know by its name alone.
    let kata = Some("io.containerd.kata.v2".to_owned());
    for (program, runtime) in [("/nowhere/shoal", None), ("/bin/false", None), (env!("CARGO_BIN_EXE_shoal-hold"), kata)]
    {
        let holder = Some(HolderProgram { program: program.into(), arguments: Vec::new() });
        let network = NetworkConfig { kinds: ALL.into(), private_addresses: false, holder };
        let executor = DockerExecutor::new(DockerConfig { node: bench.node.clone(), network, runtime, ..config() });
        let given = executor.look().await.unwrap().networks;
        assert_eq!(given, [NetworkKind::Bridge, NetworkKind::Host].into(), "{program}");
        assert_eq!(containers(&bench.label()), Vec::<String>::new());
    }
}
