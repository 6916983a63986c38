//! Databases of the read models that refuse to take anything, as when their disks are full.

use mongodb::bson::{Document, doc};
use sqlx::AssertSqlSafe;

use crate::{
    databases::{orders_database, postgres},
    stack::live,
};

/// What Postgres says of a full disk, and MongoDB of what it does not take.
pub const REFUSALS: [&str; 2] = ["No space left on device", "Document failed validation"];

/// From now on neither database takes what projections write.
pub async fn refuse_writes() {
    let table = format!("read_model.users_g{}", live("users").await);
    let refusal = REFUSALS[0];
    execute(&format!(
        "CREATE FUNCTION read_model.is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'could not extend file: {refusal}' USING ERRCODE = 'disk_full'; END $$; \
         CREATE TRIGGER is_full BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION read_model.is_full()"
    ))
    .await;
    validate(doc! { "_id": { "$exists": false } }).await;
}

/// Both take everything again.
pub async fn take_writes() {
    execute("DROP FUNCTION IF EXISTS read_model.is_full CASCADE").await;
    validate(doc! {}).await;
}

async fn execute(statements: &str) {
    let mut postgres = postgres().await;
    let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut postgres);
    done.await.expect(statements);
}

/// MongoDB takes no orders but such.
async fn validate(validator: Document) {
    let name = format!("orders_g{}", live("orders").await);
    let database = orders_database().await;
    let changed = database.run_command(doc! { "collMod": name, "validator": validator });
    changed.await.expect("a validator");
}
