//! An audit inside the database that sees every write of every process.
//!
//! Triggers record what no process may ever do: decrease a count, an offset, a watermark or an epoch, or write for a partition that it has not taken under the epoch of that write. Each process connects under a
//! name of its own, so the audit knows which process wrote; what is rolled back is not recorded.

use super::Database;

const AUDIT: &str = "
CREATE TABLE audit_taken (app TEXT, partition INT, epoch BIGINT);
CREATE TABLE audit_write (app TEXT, partition INT, epoch BIGINT, transaction BIGINT);
CREATE TABLE audit_partial (app TEXT, partition INT, transaction BIGINT);
CREATE TABLE audit_back (app TEXT, what TEXT);
CREATE FUNCTION audit_partition() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE app TEXT := current_setting('application_name');
BEGIN
    IF NEW.epoch > OLD.epoch THEN
        INSERT INTO audit_taken VALUES (app, NEW.partition, NEW.epoch);
    END IF;
    IF NEW.epoch = OLD.epoch AND NEW.updated_at IS DISTINCT FROM OLD.updated_at THEN -- not a mere heartbeat
        INSERT INTO audit_write VALUES (app, NEW.partition, NEW.epoch, txid_current());
    END IF;
    IF NEW.epoch < OLD.epoch OR (NEW.incarnation, NEW.next_offset) < (OLD.incarnation, OLD.next_offset)
        OR NEW.watermark < OLD.watermark OR NEW.max_event_time < OLD.max_event_time OR NEW.aggregated < OLD.aggregated THEN
        INSERT INTO audit_back VALUES (app, format('partition %s: %s became %s', NEW.partition, OLD, NEW));
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION audit_partial() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO audit_partial VALUES (current_setting('application_name'), NEW.partition, txid_current());
    RETURN NULL;
END $$;
CREATE FUNCTION audit_summary() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NEW.reading_count < OLD.reading_count THEN
        INSERT INTO audit_back VALUES (current_setting('application_name'), format('window %s became %s', OLD, NEW));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON weather_partition FOR EACH ROW EXECUTE FUNCTION audit_partition();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON weather_partial FOR EACH ROW EXECUTE FUNCTION audit_partial();
CREATE TRIGGER audit AFTER INSERT ON weather_dead_letter FOR EACH ROW EXECUTE FUNCTION audit_partial();
CREATE TRIGGER audit AFTER UPDATE ON weather_summary FOR EACH ROW EXECUTE FUNCTION audit_summary()";

/// What processes did that they must not do, a line each.
const VIOLATIONS: &str = "
SELECT app || ' took back: ' || what FROM audit_back
UNION ALL
SELECT format('%s wrote partition %s under epoch %s, which it has not taken', w.app, w.partition, w.epoch)
FROM audit_write w WHERE NOT EXISTS (SELECT FROM audit_taken t WHERE (t.app, t.partition, t.epoch) = (w.app, w.partition, w.epoch))
UNION ALL
SELECT format('%s wrote sums or dead letters of partition %s without its offset', p.app, p.partition) FROM audit_partial p
WHERE NOT EXISTS (SELECT FROM audit_write w WHERE (w.transaction, w.app, w.partition) = (p.transaction, p.app, p.partition))";

/// Starts it in a database whose tables are there.
pub async fn start(database: &Database) {
    database.execute(AUDIT).await;
}

/// Fails if it has recorded anything; passes where it was not started.
pub async fn assert_clean(database: &Database) {
    if database.has_table("audit_back").await {
        let rows = database.query(VIOLATIONS, &[]).await;
        let first: Vec<String> = rows.iter().map(|row| row.get(0)).take(10).collect();
        assert!(first.is_empty(), "{} violations, such as {first:#?}", rows.len());
    }
}
