BEGIN IMMEDIATE;
CREATE TABLE agent (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	project VARCHAR NOT NULL, 
	orchestrator VARCHAR NOT NULL, 
	call_key VARCHAR, 
	created_at FLOAT NOT NULL, 
	deleted_at FLOAT, 
	persona VARCHAR NOT NULL, 
	persona_body JSON NOT NULL, 
	provider VARCHAR NOT NULL, 
	model VARCHAR, 
	task VARCHAR NOT NULL, 
	cwd VARCHAR NOT NULL, 
	checkout VARCHAR NOT NULL, 
	writes BOOLEAN NOT NULL, 
	max_turns INTEGER, 
	rehearsal BOOLEAN NOT NULL, 
	root VARCHAR NOT NULL, 
	parent VARCHAR, 
	depth INTEGER NOT NULL, 
	child_index INTEGER, 
	children INTEGER NOT NULL, 
	priority INTEGER NOT NULL, 
	checks JSON, 
	check_retries INTEGER, 
	account VARCHAR NOT NULL, 
	account_public JSON NOT NULL, 
	environment JSON NOT NULL, 
	status VARCHAR NOT NULL, 
	reason VARCHAR NOT NULL, 
	changed_at FLOAT NOT NULL, 
	owner VARCHAR, 
	epoch INTEGER NOT NULL, 
	last_seq INTEGER NOT NULL, 
	turns INTEGER NOT NULL, 
	pending JSON, 
	session_id VARCHAR NOT NULL, 
	session_started BOOLEAN NOT NULL, 
	session_cost_usd FLOAT, 
	progress VARCHAR NOT NULL, 
	last_tool VARCHAR NOT NULL, 
	last_event_at FLOAT, 
	progress_at FLOAT, 
	progress_tokens INTEGER NOT NULL, 
	tool_at FLOAT, 
	tool_tokens INTEGER NOT NULL, 
	open_tools INTEGER NOT NULL, 
	same_calls INTEGER NOT NULL, 
	tool_calls INTEGER NOT NULL, 
	context_tokens INTEGER, 
	context_window_tokens INTEGER, 
	tokens INTEGER NOT NULL, 
	cost_usd FLOAT NOT NULL, 
	cost_unknown BOOLEAN NOT NULL, 
	live_tokens INTEGER NOT NULL, 
	live_cost_usd FLOAT NOT NULL, 
	begun_turns INTEGER NOT NULL, 
	worked_seconds FLOAT NOT NULL, 
	running_since FLOAT, 
	wait_kind VARCHAR, wait_on VARCHAR DEFAULT '' NOT NULL, wait_until FLOAT, wait_detail VARCHAR DEFAULT '' NOT NULL, wait_blocked BOOLEAN DEFAULT '0' NOT NULL, activity VARCHAR DEFAULT '' NOT NULL, activity_detail VARCHAR DEFAULT '' NOT NULL, activity_seconds FLOAT, briefs JSON, 
	CONSTRAINT pk_agent PRIMARY KEY (id), 
	CONSTRAINT fk_agent_parent FOREIGN KEY(parent) REFERENCES agent (id), 
	CONSTRAINT uq_agent_call_key UNIQUE (call_key)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0011');
CREATE TABLE artifact (
	agent_id VARCHAR NOT NULL, 
	turn INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	path VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_artifact PRIMARY KEY (agent_id, turn, kind, path), 
	CONSTRAINT fk_artifact_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id)
);
CREATE TABLE breaker (
	account VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	until FLOAT NOT NULL, 
	tries INTEGER NOT NULL, 
	detail VARCHAR NOT NULL, 
	CONSTRAINT pk_breaker PRIMARY KEY (account, provider)
);
CREATE TABLE budget (
	subject VARCHAR NOT NULL, 
	scope VARCHAR NOT NULL, 
	unit VARCHAR NOT NULL, 
	cap FLOAT NOT NULL, 
	setting FLOAT, 
	CONSTRAINT pk_budget PRIMARY KEY (subject, scope, unit)
);
CREATE TABLE command (
	"key" VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	turn_id VARCHAR, 
	happened VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_command PRIMARY KEY ("key"), 
	CONSTRAINT fk_command_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id)
);
CREATE TABLE durable_wait (
	id VARCHAR NOT NULL, 
	project VARCHAR NOT NULL, 
	orchestrator VARCHAR NOT NULL, 
	until VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	result VARCHAR NOT NULL, 
	call_key VARCHAR, 
	since VARCHAR, 
	question_id VARCHAR, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	deadline FLOAT, 
	asks_person BOOLEAN NOT NULL, 
	is_error BOOLEAN NOT NULL, 
	agents JSON NOT NULL, 
	outcomes JSON NOT NULL, 
	CONSTRAINT pk_durable_wait PRIMARY KEY (id), 
	CONSTRAINT fk_durable_wait_question_id FOREIGN KEY(question_id) REFERENCES question (id), 
	CONSTRAINT uq_durable_wait_call_key UNIQUE (call_key)
);
CREATE TABLE event (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	agent_id VARCHAR NOT NULL, 
	seq INTEGER NOT NULL, 
	turn INTEGER, 
	kind VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	body JSON NOT NULL, 
	CONSTRAINT fk_event_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id), 
	CONSTRAINT uq_event_agent_id_seq UNIQUE (agent_id, seq)
);
CREATE TABLE input (
	agent_id VARCHAR NOT NULL, 
	turn INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	source_id VARCHAR NOT NULL, 
	settled BOOLEAN NOT NULL, 
	blocked BOOLEAN NOT NULL, any_end BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_input PRIMARY KEY (agent_id, turn, position), 
	CONSTRAINT fk_input_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id), 
	CONSTRAINT fk_input_source_id FOREIGN KEY(source_id) REFERENCES agent (id)
);
CREATE TABLE lease (
	id INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	acquired_at FLOAT NOT NULL, 
	released_at FLOAT, 
	CONSTRAINT pk_lease PRIMARY KEY (id), 
	CONSTRAINT fk_lease_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id)
);
CREATE TABLE process (
	marker VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	epoch INTEGER NOT NULL, 
	tier VARCHAR NOT NULL, 
	boot VARCHAR NOT NULL, 
	intended_at FLOAT NOT NULL, 
	pid INTEGER, 
	started VARCHAR NOT NULL, 
	cgroup VARCHAR NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	CONSTRAINT pk_process PRIMARY KEY (marker), 
	CONSTRAINT fk_process_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id)
);
CREATE TABLE question (
	id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	turn INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	call_id VARCHAR NOT NULL, 
	tool VARCHAR NOT NULL, 
	input JSON NOT NULL, 
	text VARCHAR NOT NULL, 
	options JSON NOT NULL, 
	asked_at FLOAT NOT NULL, 
	deadline_at FLOAT, 
	fallback VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	answer VARCHAR, 
	answered_at FLOAT, 
	answered_by VARCHAR, 
	CONSTRAINT pk_question PRIMARY KEY (id), 
	CONSTRAINT fk_question_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id)
);
CREATE TABLE transcript (
	agent_id VARCHAR NOT NULL, 
	subpath VARCHAR NOT NULL, 
	seq INTEGER NOT NULL, 
	uuid VARCHAR, 
	body VARCHAR NOT NULL, 
	CONSTRAINT pk_transcript PRIMARY KEY (agent_id, subpath, seq), 
	CONSTRAINT fk_transcript_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id), 
	CONSTRAINT uq_transcript_agent_id_subpath_uuid UNIQUE (agent_id, subpath, uuid)
);
CREATE TABLE turn (
	id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	ordinal INTEGER NOT NULL, 
	urgent INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	suspended_for VARCHAR NOT NULL, 
	stop VARCHAR NOT NULL, 
	prompt_received BOOLEAN NOT NULL, 
	resumes INTEGER NOT NULL, 
	overloads INTEGER NOT NULL, 
	prompt VARCHAR NOT NULL, 
	reason VARCHAR NOT NULL, 
	detail VARCHAR NOT NULL, 
	hint VARCHAR NOT NULL, 
	result VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	epoch INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	prompts JSON, 
	losses JSON, 
	checks JSON, 
	checked JSON, 
	input_tokens INTEGER NOT NULL, 
	output_tokens INTEGER NOT NULL, 
	cache_read_tokens INTEGER NOT NULL, 
	cache_write_tokens INTEGER NOT NULL, 
	model_calls INTEGER NOT NULL, 
	cost_usd FLOAT NOT NULL, 
	cost_unknown BOOLEAN NOT NULL, 
	"before" JSON, 
	changes JSON, 
	changes_unknown VARCHAR NOT NULL, outcome_cursor INTEGER, delivered_at FLOAT, 
	CONSTRAINT pk_turn PRIMARY KEY (id), 
	CONSTRAINT fk_turn_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id), 
	CONSTRAINT uq_turn_agent_id_ordinal UNIQUE (agent_id, ordinal)
);
CREATE INDEX ix_agent_parent ON agent (parent);
CREATE INDEX ix_agent_root ON agent (root);
CREATE INDEX ix_agent_status ON agent (status, created_at);
CREATE UNIQUE INDEX uq_agent_live_name ON agent (project, name) WHERE deleted_at IS NULL;
CREATE INDEX ix_input_source_id ON input (source_id);
CREATE INDEX ix_lease_agent ON lease (agent_id);
CREATE UNIQUE INDEX uq_lease_held ON lease (kind, name) WHERE released_at IS NULL;
CREATE INDEX ix_process_agent_id ON process (agent_id);
CREATE INDEX ix_process_open ON process (ended_at);
CREATE INDEX ix_question_call ON question (agent_id, call_id);
CREATE INDEX ix_question_deadline ON question (state, deadline_at);
CREATE UNIQUE INDEX uq_question_open ON question (agent_id) WHERE state = 'open';
CREATE INDEX ix_turn_open ON turn (agent_id, status);
CREATE INDEX ix_agent_wait ON agent (wait_kind, wait_until);
CREATE INDEX ix_turn_unread ON turn (agent_id) WHERE outcome_cursor IS NOT NULL AND delivered_at IS NULL;
CREATE INDEX ix_agent_living ON agent (project, created_at) WHERE deleted_at IS NULL;
CREATE INDEX ix_agent_asking ON agent (project) WHERE pending IS NOT NULL;
CREATE INDEX ix_input_unsettled ON input (agent_id) WHERE settled IS 0;
CREATE INDEX ix_durable_wait_question_id ON durable_wait (question_id);
CREATE INDEX ix_durable_wait_status ON durable_wait (status);
CREATE INDEX ix_turn_ended ON turn (agent_id, ended_at, ordinal);
CREATE INDEX ix_agent_resting ON agent (project, status, cost_unknown, rehearsal, tokens, context_tokens, cost_usd) WHERE deleted_at IS NULL AND running_since IS NULL AND live_tokens = 0 AND live_cost_usd = 0;
CREATE INDEX ix_agent_at_work ON agent (project) WHERE deleted_at IS NULL AND (running_since IS NOT NULL OR live_tokens != 0 OR live_cost_usd != 0);
CREATE INDEX ix_turn_ended_at ON turn (ended_at);
CREATE INDEX ix_agent_orchestrator ON agent (project, orchestrator, created_at) WHERE deleted_at IS NULL;
CREATE INDEX ix_agent_deleted ON agent (project, name, created_at) WHERE deleted_at IS NOT NULL;
DELETE FROM "sqlite_sequence";
COMMIT;
