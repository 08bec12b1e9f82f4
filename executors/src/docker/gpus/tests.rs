use std::os::unix::fs::symlink;

use super::*;

/// A machine with two GPUs of NVIDIA's, one of AMD's, one of Intel's, and one that draws the screen.
fn machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for (place, id) in [("0000:01:00.0", "GPU-1111"), ("0000:02:00.0", "GPU-2222"), ("0000:03:00.0", "GPU-????")] {
        let folder = root.join("proc/driver/nvidia/gpus").join(place);
        fs::create_dir_all(&folder).unwrap();
        let told = format!("Model: \t\t NVIDIA A100\nIRQ:   \t\t 16\nGPU UUID: \t {id}\nDevice Minor: \t 0\n");
        fs::write(folder.join("information"), told).unwrap();
    }
    let cards = [("0x1002", "0000:41:00.0", 1), ("0x8086", "0000:51:00.0", 2), ("0x8086", "0000:00:02.0", 0)];
    for (vendor, place, number) in cards {
        let device = root.join("sys/devices").join(place);
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("vendor"), format!("{vendor}\n")).unwrap();
        for node in [format!("card{number}"), format!("renderD{}", 128 + number), format!("card{number}-HDMI-A-1")] {
            let node = root.join("sys/class/drm").join(node);
            fs::create_dir_all(&node).unwrap();
            symlink(&device, node.join("device")).unwrap();
        }
    }
    fs::create_dir_all(root.join("dev")).unwrap();
    fs::write(root.join("dev/kfd"), "").unwrap();
    dir
}

fn gpus() -> Gpus {
    Gpus::new(find(machine().path()))
}

fn ids(taken: &Taken<'_>) -> Vec<String> {
    taken.mine.iter().map(|gpu| gpu.id.clone()).collect()
}

const NVIDIA: Option<NvidiaBy> = Some(NvidiaBy::Runtime);

#[test]
fn gpus_are_found_where_the_kernel_shows_them() {
    let found: Vec<String> = find(machine().path()).iter().map(Gpu::to_string).collect();
    let expected = ["NVIDIA A100 (GPU-1111)", "NVIDIA A100 (GPU-2222)", "AMD (0000:41:00.0)", "Intel (0000:51:00.0)"];
    assert_eq!(found, expected);
    assert_eq!(find(Path::new("/nowhere")), []);
}

#[test]
fn an_operator_may_keep_gpus_back() {
    let found = || find(machine().path());
    assert_eq!(Allowed::All.of(found()).len(), 4);
    assert_eq!(Allowed::Only(Vec::new()).of(found()), []);
    let only = Allowed::Only(vec!["GPU-2222".into(), "GPU-9999".into()]).of(found());
    assert_eq!(only.iter().map(|gpu| gpu.id.as_str()).collect::<Vec<_>>(), ["GPU-2222"]);
}

#[test]
fn each_run_has_gpus_of_its_own_until_it_ends() {
    let gpus = gpus();
    let first = gpus.take(1, NVIDIA, "a").unwrap();
    let second = gpus.take(1, NVIDIA, "b").unwrap();
    assert_eq!((ids(&first), ids(&second)), (vec!["GPU-1111".to_owned()], vec!["GPU-2222".to_owned()]));
    assert!(gpus.take(2, NVIDIA, "c").is_none(), "not two of different vendors");
    drop(first);
    drop(second);
    assert_eq!(ids(&gpus.take(2, NVIDIA, "c").unwrap()), ["GPU-1111", "GPU-2222"]);
    assert_eq!(ids(&gpus.take(0, NVIDIA, "d").unwrap()), Vec::<String>::new());
}

#[test]
fn what_a_run_of_before_had_is_not_given_to_another() {
    let gpus = gpus();
    gpus.retake("GPU-1111,GPU-of-before", "a");
    let other = gpus.take(1, NVIDIA, "b").unwrap();
    assert_eq!(ids(&other), ["GPU-2222"]);
    drop(gpus.retaken("a"));
    assert_eq!(ids(&gpus.take(1, NVIDIA, "c").unwrap()), ["GPU-1111"]);
}

#[test]
fn nvidias_are_asked_for_by_id_in_the_way_that_the_engine_knows() {
    let gpus = gpus();
    let taken = gpus.take(2, NVIDIA, "a").unwrap();
    let given = taken.given(NVIDIA);
    assert_eq!((given.devices.len(), given.groups.len()), (0, 0));
    let request = &given.requests[0];
    assert_eq!(request.driver.as_deref(), Some("nvidia"));
    assert_eq!(request.device_ids, Some(vec!["GPU-1111".into(), "GPU-2222".into()]));
    assert_eq!(request.capabilities.as_ref().unwrap()[0][0], "gpu");
    assert_eq!(request.count, None, "ids and a count exclude each other");
    let described = taken.given(Some(NvidiaBy::Descriptions)).requests.remove(0);
    assert_eq!(described.driver.as_deref(), Some("cdi"));
    assert_eq!(described.device_ids.unwrap()[1], "nvidia.com/gpu=GPU-2222");
}

#[test]
fn others_are_given_as_their_own_devices_and_no_more() {
    let gpus = gpus();
    let paths = |taken: &Taken<'_>| {
        let given = taken.given(None);
        assert_eq!(given.requests, []);
        given.devices.into_iter().map(|device| device.path_on_host.unwrap()).collect::<Vec<_>>()
    };
    let amd = gpus.take(1, None, "a").unwrap();
    assert_eq!(paths(&amd), ["/dev/dri/card1", "/dev/dri/renderD129", "/dev/kfd"]);
    let intel = gpus.take(1, None, "b").unwrap();
    assert_eq!(paths(&intel), ["/dev/dri/card2", "/dev/dri/renderD130"]);
    assert!(gpus.take(1, None, "c").is_none(), "the engine cannot give NVIDIA's");
}

#[test]
fn an_engine_says_whether_it_can_give_nvidias() {
    let runtimes = |name: &str| Some([(name.to_owned(), bollard::models::Runtime::default())].into());
    let device = |id: &str| bollard::models::DeviceInfo { id: Some(id.into()), ..Default::default() };
    let table = [
        (SystemInfo::default(), None),
        (SystemInfo { runtimes: runtimes("runc"), ..SystemInfo::default() }, None),
        (SystemInfo { runtimes: runtimes("nvidia"), ..SystemInfo::default() }, Some(NvidiaBy::Runtime)),
        (
            SystemInfo { discovered_devices: Some(vec![device("nvidia.com/gpu=0")]), ..SystemInfo::default() },
            Some(NvidiaBy::Descriptions),
        ),
        (SystemInfo { discovered_devices: Some(vec![device("vendor.com/net=0")]), ..SystemInfo::default() }, None),
    ];
    for (info, expected) in table {
        assert_eq!(NvidiaBy::of(&info), expected, "{info:?}");
    }
}
