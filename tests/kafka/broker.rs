//! One Kafka broker in KRaft mode on free ports of 127.0.0.1, its data under the system's temporary directory.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::receiving::with_parent;

const START: Duration = Duration::from_secs(120);

pub struct Broker {
    dir: tempfile::TempDir,
    jars: PathBuf,
    version: String,
    port: u16,
    starts: u32,
    // None while it is down.
    process: Option<Child>,
}

impl Broker {
    /// Formats its storage, starts it and waits until it serves.
    pub fn start() -> Broker {
        let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: use tests/kafka/run"));
        let (jars, version) = (PathBuf::from(variable("SEAWALL_KAFKA_JARS")), variable("SEAWALL_KAFKA_VERSION"));
        assert!(jars.is_dir(), "no jars in {}: use tests/kafka/run", jars.display());
        let dir = tempfile::Builder::new().prefix("seawall-kafka-").tempdir().unwrap();
        let (port, controller) = free_ports();
        let mut broker = Broker { dir, jars, version, port, starts: 0, process: None };
        broker.write_files(controller);
        let id = broker.tool(&["random-uuid"]);
        let config = broker.file("server.properties");
        broker.tool(&["format", "-t", id.trim(), "-c", config.to_str().unwrap()]);
        broker.restart();
        broker
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// SIGKILL: what it had not written to the operating system is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again on what it left, and waits until it serves.
    pub fn restart(&mut self) {
        assert!(self.process.is_none());
        self.starts += 1;
        let path = self.file(&format!("broker-{}.log", self.starts));
        let log = File::create(&path).unwrap();
        let mut command = self.java();
        command.args(["-Xmx512m", "-XX:+UseSerialGC", "kafka.Kafka"]).arg(self.file("server.properties"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = with_parent(&mut command).spawn().unwrap();
        let deadline = Instant::now() + START;
        while !fs::read_to_string(&path).unwrap().contains("Kafka Server started") {
            let ended = process.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let _ = process.kill();
                panic!("the broker did not start ({ended:?}):\n{}", fs::read_to_string(&path).unwrap());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.process = Some(process);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn java(&self) -> Command {
        let mut command = Command::new("java");
        command.current_dir(self.dir.path()).arg("-cp").arg(self.jars.join("*"));
        command.arg(format!("-Dlog4j.configuration=file:{}", self.file("log4j.properties").display()));
        command.arg(format!("-Dlog4j2.configurationFile={}", self.file("log4j2.properties").display()));
        command
    }

    fn tool(&self, arguments: &[&str]) -> String {
        let output = self.java().arg("kafka.tools.StorageTool").args(arguments).output().expect("java does not start");
        assert!(output.status.success(), "StorageTool {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn write_files(&self, controller: u16) {
        let (port, data) = (self.port, self.file("data"));
        let server = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             log.dirs={data}\n\
             offsets.topic.num.partitions=1\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.num.partitions=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             auto.create.topics.enable=false\n\
             group.initial.rebalance.delay.ms=0\n\
             group.min.session.timeout.ms=500\n\
             broker.session.timeout.ms=3000\n\
             broker.heartbeat.interval.ms=500\n",
            data = data.display()
        );
        fs::write(self.file("server.properties"), server).unwrap();
        let log4j = "log4j.rootLogger=WARN, stdout\n\
             log4j.appender.stdout=org.apache.log4j.ConsoleAppender\n\
             log4j.appender.stdout.layout=org.apache.log4j.PatternLayout\n\
             log4j.appender.stdout.layout.ConversionPattern=[%d] %p %m (%c)%n\n\
             log4j.logger.kafka=INFO\n";
        fs::write(self.file("log4j.properties"), log4j).unwrap();
        let log4j2 = "rootLogger.level=warn\n\
             rootLogger.appenderRefs=out\n\
             rootLogger.appenderRef.out.ref=OUT\n\
             appender.out.type=Console\n\
             appender.out.name=OUT\n\
             appender.out.layout.type=PatternLayout\n\
             appender.out.layout.pattern=[%d] %p %m (%c)%n\n\
             logger.k.name=kafka\n\
             logger.k.level=info\n";
        fs::write(self.file("log4j2.properties"), log4j2).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> (u16, u16) {
    let sockets = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, two] = sockets.map(|socket| socket.local_addr().unwrap().port());
    (one, two)
}
