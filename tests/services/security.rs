//! Who may connect: Kafka's listeners that require a user, PostgreSQL's roles with the least rights.

use std::time::Duration;

use crate::support::kafka::Version;
use crate::support::{Database, Folder, Kafka, Pipeline, Postgres, Weather, turn, unique};

const LIMIT: Duration = Duration::from_secs(60);

/// As the README has it.
const GRANTS: &str = "
GRANT USAGE ON SCHEMA public TO ROLE_NAME;
GRANT SELECT, INSERT, UPDATE ON weather_summary, weather_partial, weather_partition TO ROLE_NAME;
GRANT SELECT, INSERT, UPDATE, DELETE ON weather_process, weather_log TO ROLE_NAME;
GRANT SELECT, INSERT, DELETE ON weather_dead_letter TO ROLE_NAME;
GRANT SELECT, UPDATE ON weather_pipeline TO ROLE_NAME;
";

/// A broker whose one listener wants a user: carol by PLAIN, alice by SCRAM-SHA-256, bob by SCRAM-SHA-512.
async fn guarded_kafka() -> Kafka {
    let module = "org.apache.kafka.common.security";
    let plain = format!(
        "listener.name.plaintext.plain.sasl.jaas.config={module}.plain.PlainLoginModule required username=\"admin\" \
         password=\"admin-secret\" user_admin=\"admin-secret\" user_carol=\"carol-secret\";"
    );
    let scram = |kind: &str| {
        format!("listener.name.plaintext.{kind}.sasl.jaas.config={module}.scram.ScramLoginModule required;")
    };
    let settings = [
        "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name=PLAINTEXT",
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol=PLAIN",
        &plain,
        &scram("scram-sha-256"),
        &scram("scram-sha-512"),
    ];
    let kafka = Kafka::private(Version::V4_1, &settings).await;
    let folder = Folder::new("sasl");
    let client = folder.path().join("admin.properties");
    let login = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={module}.plain.PlainLoginModule \
         required username=\"admin\" password=\"admin-secret\";\n"
    );
    std::fs::write(&client, login).expect("the folder is ours");
    for (user, kind) in [("alice", "SCRAM-SHA-256"), ("bob", "SCRAM-SHA-512")] {
        let credentials = format!("{kind}=[iterations=4096,password={user}-secret]");
        let server =
            ["--bootstrap-server", &kafka.brokers(), "--command-config", client.to_str().expect("a name")];
        let alter =
            ["--alter", "--entity-type", "users", "--entity-name", user, "--add-config", &credentials];
        kafka.tool("kafka.admin.ConfigCommand", &[&server[..], &alter].concat());
    }
    kafka
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_users_are_let_in_by_every_mechanism_and_refused_with_a_clear_line() {
    let _turn = turn::heavy().await;
    let kafka = guarded_kafka().await;
    let database = Postgres::shared().database().await;
    let users = [("PLAIN", "carol"), ("SCRAM-SHA-256", "alice"), ("SCRAM-SHA-512", "bob")];
    let brokers = kafka.brokers();
    for (mechanism, user) in users {
        let arguments = ["--brokers", &brokers, "--sasl-mechanism", mechanism, "--sasl-username", user];
        let counted =
            ["producer", "--count", "200", "--interval", "1ms", "--partitions", "2", "--log-sent", "none"];
        let secret = Folder::new("secret");
        let file = secret.path().join("password");
        std::fs::write(&file, format!("{user}-secret\n")).expect("the folder is ours");
        let sent = Weather::command(counted.iter().chain(&arguments))
            .env("WEATHER_SASL_PASSWORD_FILE", file.to_str().expect("a name"))
            .spawn();
        sent.succeed(LIMIT).await;
        let wrong = Weather::command(counted.iter().chain(&arguments))
            .env("WEATHER_SASL_PASSWORD", "not-this")
            .spawn();
        assert_eq!(wrong.wait(LIMIT).await.code(), Some(2), "{mechanism}");
        let said = wrong.stderr().join("\n");
        assert!(said.contains(&format!("user \"{user}\" is refused: wrong name, password")), "{said}");
        assert!(!said.contains("not-this") && !said.contains("-secret"), "{said}");
    }
    // The processor with the right password, then with a wrong one.
    let folder = Folder::new("checkpoints");
    let process = |password: &'static str, more: &[&str]| {
        let common =
            ["process", "--brokers", &brokers, "--sasl-mechanism", "PLAIN", "--sasl-username", "carol"];
        let own =
            ["--database-url", database.url(), "--checkpoint-dir", folder.path().to_str().expect("a name")];
        let listen = ["--listen", "127.0.0.1:0"];
        Weather::command(common.iter().chain(&own).chain(&listen).chain(more))
            .env("WEATHER_SASL_PASSWORD", password)
            .spawn()
    };
    process("carol-secret", &["--until-latest"]).succeed(LIMIT).await;
    assert_eq!(database.number("SELECT sum(reading_count)::bigint FROM weather_summary").await, 600);
    let refused = process("not-this", &[]);
    let line = refused.wait_for_line("is refused: wrong name, password", LIMIT).await;
    assert!(line.contains("WARN"), "{line}");
    tokio::time::sleep(Duration::from_secs(8)).await;
    let lines = refused.stderr().iter().filter(|line| line.contains("is refused")).count();
    assert_eq!(lines, 1, "it says so once");
    refused.sigterm();
    refused.succeed(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_no_more_rights_than_needed_does_all_the_work() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("security").await;
    let owner = &pipeline.database;
    let role = unique("weather_role");
    owner.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'role-secret'")).await;
    let (address, name) = owner.url().rsplit_once('@').expect("a URL").1.split_once('/').expect("a database");
    let url = format!("postgres://{role}@{address}/{name}");
    pipeline
        .produce(&["--count", "2000", "--rate", "0", "--backfill", "3h", "--malformed-ratio", "0.05"])
        .await;
    let folder = pipeline.folder();
    let process = |password: &str| {
        let common = ["process", "--brokers", &pipeline.brokers, "--topic", &pipeline.topic, "--listen", ""];
        let own = ["--database-url", &url, "--checkpoint-dir", folder, "--until-latest"];
        Weather::command(common.iter().chain(&own)).env("PGPASSWORD", password).spawn()
    };
    // Without tables and without the right to make them: a sentence, and exit code 2.
    let empty = process("role-secret");
    assert_eq!(empty.wait(LIMIT).await.code(), Some(2));
    let said = empty.stderr().join("\n");
    assert!(said.contains("weather_summary is missing in the database and could not be created"), "{said}");
    let wrong = process("not-this");
    assert_eq!(wrong.wait(LIMIT).await.code(), Some(2));
    assert!(!wrong.stderr().join("\n").contains("not-this"));

    // A role that may create them starts once; from then on, rights to the rows are enough.
    pipeline.drain().await;
    owner.execute(&GRANTS.replace("ROLE_NAME", &role)).await;
    pipeline
        .produce(&["--count", "3000", "--rate", "0", "--backfill", "3h", "--malformed-ratio", "0.05"])
        .await;
    process("role-secret").succeed(LIMIT).await;
    let query = "SELECT (SELECT sum(aggregated + malformed + missing_timestamp + no_metric + out_of_range + future + late \
                 + oversized) FROM weather_partition)::bigint";
    assert_eq!(owner.number(query).await, 5000);
    drop_role(owner, &role).await;
}

async fn drop_role(owner: &Database, role: &str) {
    owner.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
