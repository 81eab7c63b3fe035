"""Which texts of an item without an execution say that the server failed to run it, and which are the item's own."""

from __future__ import annotations

import pytest

from loopai._core.unrun import is_unrun

OF_THE_SERVER = (
    "A second operation was started on this context instance before a previous operation completed. This "
    "is usually caused by different threads concurrently using the same instance of DbContext. For more "
    "information on how to avoid threading issues with DbContext, see "
    "the documentation.",
    "A second operation started on this context before a previous operation completed. Any instance "
    "members are not guaranteed to be thread safe.",
    "A second operation started on this context before a previous asynchronous operation completed. Use "
    "'await' to ensure that any asynchronous operations have completed before calling another method on "
    "this context. Any instance members are not guaranteed to be thread safe.",
    "An error occurred while saving the entity changes. See the inner exception for details.",
    "An error occurred while updating the entries. See the inner exception for details.",
    "An error occurred while reading a database value for property 'Task.Id'. See the inner exception "
    "for more information.",
    "An attempt was made to use the model while it was being created. A DbContext instance cannot be "
    "used inside 'OnModelCreating' in any way that makes use of the model that is being created.",
    "An attempt was made to use the context instance while it is being configured. A DbContext instance "
    "cannot be used inside 'OnConfiguring' since it is still being configured at this point.",
    "The instance of entity type 'ExecutionRecord' cannot be tracked because another instance with the "
    "same key value for {'Id'} is already being tracked. When attaching existing entities, ensure that "
    "only one entity instance with a given key value is attached.",
    "The database operation was expected to affect 1 row(s), but actually affected 0 row(s); data may "
    "have been modified or deleted since entities were loaded.",
    "Database operation expected to affect 1 row(s) but actually affected 0 row(s). Data may have been "
    "modified or deleted since entities were loaded.",
    "Cannot access a disposed context instance. A common cause of this error is disposing a context "
    "instance that was resolved from dependency injection and then later trying to use the same context "
    "instance elsewhere in your application.",
    "Cannot access a disposed object.\nObject name: 'SqliteConnection'.",
    "Collection was modified; enumeration operation may not execute.",
    "Operations that change non-concurrent collections must have exclusive access. A concurrent update "
    "was performed on this collection and corrupted its state. The collection's state is no longer correct.",
    "There is already an open DataReader associated with this Connection which must be closed first.",
    "There is already an open DataReader associated with this Command which must be closed first.",
    "BeginExecuteReader requires an open and available Connection. The connection's current state is closed.",
    "ExecuteReader requires an open and available Connection. The connection's current state is connecting.",
    "ExecuteReader can only be called when the connection is open.",
    "ExecuteNonQuery can only be called when the connection is open.",
    "BeginTransaction can only be called when the connection is open.",
    "Execute requires the command to have a transaction object when the connection assigned to the "
    "command is in a pending local transaction. The Transaction property of the command has not been "
    "initialized.",
    "ExecuteReader requires the command to have a transaction when the connection assigned to the "
    "command is in a pending local transaction.",
    "The connection was not closed. The connection's current state is open.",
    "The connection was not closed. The connection's current state is connecting.",
    "The connection is already in a transaction and cannot participate in another transaction.",
    "The connection does not support MultipleActiveResultSets.",
    "SqlConnection does not support parallel transactions.",
    "SqliteConnection does not support nested transactions.",
    "This SqlTransaction has completed; it is no longer usable.",
    "This SqliteTransaction has completed; it is no longer usable.",
    "This NpgsqlTransaction has completed; it is no longer usable.",
    "Invalid operation. The connection is closed.",
    "Invalid attempt to call Read when reader is closed.",
    "Invalid attempt to call MetaData when reader is closed.",
    "A transport-level error has occurred when receiving results from the server. (provider: TCP "
    "Provider, error: 0 - An existing connection was forcibly closed by the remote host.)",
    "A network-related or instance-specific error occurred while establishing a connection to SQL "
    "Server. The server was not found or was not accessible.",
    "A connection was successfully established with the server, but then an error occurred during the "
    "pre-login handshake.",
    "A severe error occurred on the current command.  The results, if any, should be discarded.",
    "Timeout expired.  The timeout period elapsed prior to obtaining a connection from the pool.  This "
    "may have occurred because all pooled connections were in use and max pool size was reached.",
    "Execution Timeout Expired.  The timeout period elapsed prior to completion of the operation or the "
    "server is not responding.",
    "Connection Timeout Expired.  The timeout period elapsed during the post-login phase.",
    "Transaction (Process ID 57) was deadlocked on lock resources with another process and has been "
    "chosen as the deadlock victim. Rerun the transaction.",
    "Lock request time out period exceeded.",
    "Snapshot isolation transaction aborted due to update conflict. You cannot use snapshot isolation to "
    "access table 'dbo.Executions' directly or indirectly in database 'Loopai' to update, delete, or "
    "insert the row that has been modified or deleted by another transaction.",
    "Violation of PRIMARY KEY constraint 'PK_ProgramArtifacts'. Cannot insert duplicate key in object "
    "'dbo.ProgramArtifacts'.",
    "Violation of UNIQUE KEY constraint 'AK_X'. Cannot insert duplicate key in object 'dbo.X'.",
    "Cannot insert duplicate key row in object 'dbo.Tasks' with unique index 'IX_Tasks_Name'. The "
    "duplicate key value is (x).",
    "An exception has been raised that is likely due to a transient failure. Consider enabling transient "
    "error resiliency by adding 'EnableRetryOnFailure' to the 'UseSqlServer' call.",
    "An exception has been raised that is likely due to transient failure.",
    "The maximum number of retries (6) was exceeded while executing database operations with "
    "'SqlServerRetryingExecutionStrategy'. See the inner exception for the most recent failure.",
    "Maximum number of retries (6) exceeded while executing database operations with "
    "'NpgsqlRetryingExecutionStrategy'. See inner exception for the most recent failure.",
    "Internal connection fatal error.",
    'A command is already in progress: SELECT t."Id" FROM "Tasks" AS t',
    "The connection is already in state 'Executing'",
    "The connection is already in state 'Fetching'",
    "Connection already open",
    "Connection is not open",
    "Connection is busy",
    "Connection must be open for this operation",
    "The connection pool has been exhausted, either raise 'Max Pool Size' (currently 100) or 'Timeout' "
    "(currently 15 seconds) in your connection string.",
    "Exception while reading from stream",
    "Exception while writing to stream",
    "Failed to connect to 127.0.0.1:5432",
    "Timeout during reading attempt",
    "40P01: deadlock detected\n\nDETAIL: Detail redacted as it may contain sensitive data.",
    "40001: could not serialize access due to concurrent update",
    "57014: canceling statement due to statement timeout",
    "53300: sorry, too many clients already",
    "25P02: current transaction is aborted, commands ignored until end of transaction block",
    '23505: duplicate key value violates unique constraint "PK_Executions"',
    '55P03: could not obtain lock on row in relation "Tasks"',
    "SQLite Error 5: 'database is locked'.",
    "SQLite Error 6: 'database table is locked: Executions'.",
    "SQLite Error 19: 'UNIQUE constraint failed: ProgramArtifacts.TaskId, ProgramArtifacts.Version'.",
    "SQLite Error 21: 'bad parameter or other API misuse'.",
    "SQLite Error 1: 'cannot start a transaction within a transaction'.",
    "SQLite Error 14: 'unable to open database file'.",
    "SQLite Error 8: 'attempt to write a readonly database'.",
    "An open reader is already associated with this command. Close it before opening a new one.",
    "This MySqlConnection is already in use.",
    "Deadlock found when trying to get lock; try restarting transaction",
    "Lock wait timeout exceeded; try restarting transaction",
    "Duplicate entry '1' for key 'PRIMARY'",
    "Microsoft.EntityFrameworkCore.DbUpdateException: An error occurred while saving the entity changes. "
    "See the inner exception for details.",
    "System.InvalidOperationException: A second operation was started on this context instance before a "
    "previous operation completed.",
    "One or more errors occurred. (A second operation was started on this context instance before a "
    "previous operation completed.)",
    "Microsoft.Data.SqlClient.SqlException (0x80131904): Transaction (Process ID 52) was deadlocked on "
    "lock resources with another process and has been chosen as the deadlock victim.",
    "The ConnectionString property has not been initialized.",
    "The connection is broken and recovery is not possible. The connection is marked by the server as "
    "unrecoverable. No attempt was made to restore the connection.",
    "The operation cannot be completed because the DbContext has been disposed.",
)
"""Entity Framework Core and 6, SqlClient, Npgsql, SQLite and MySQL; as .NET writes them, with and without its types."""

OF_THE_ITEM = (
    "",
    "Cannot read properties of undefined (reading 'toLowerCase')",
    "Program generation failed: cannot generate",
    "Version 3 is a draft and cannot be executed",
    "Task with ID 7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60 not found",
    "Unsupported language: cobol",
    "Execution timeout after 5000ms",
    "Execution error: No such file or directory",
    "Object reference not set to an instance of an object.",
    "Value cannot be null. (Parameter 'input')",
    "input.text: 3 is not of type 'string'",
    "skipped: an item before it failed",
    "An error occurred during program execution",
    "the text says: A second operation was started on this context instance",
    "connection",
    "Timeout",
    "40 rows: none of them is right",
)


@pytest.mark.parametrize("text", OF_THE_SERVER, ids=range(len(OF_THE_SERVER)))
def test_a_database_s_or_context_s_text_is_the_server_s_failure(text: str) -> None:
    """Unless the item ran, or says by a code that it is final."""
    assert is_unrun(False, None, None, text)
    assert is_unrun(False, None, None, f" {text}")
    assert not is_unrun(True, None, None, text)
    assert not is_unrun(False, "c2d3e4f5-0617-4283-9a4b-5c6d7e8f9012", None, text)
    assert not is_unrun(False, None, "EXECUTION_ERROR", text)


@pytest.mark.parametrize("text", OF_THE_ITEM, ids=range(len(OF_THE_ITEM)))
def test_any_other_text_is_final(text: str) -> None:
    """It changes no concurrency, and the item is not sent again."""
    assert not is_unrun(False, None, None, text)
