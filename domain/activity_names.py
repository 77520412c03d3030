"""Names of activities and orchestrators, shared by those who register and those who call."""

# Registered by conditioning/functions.py
DATA_GATE = "data_gate"
CURATE_WEEK = "curate_week"
CONDITION_SOURCE = "condition_source"

# Registered by orchestrators/functions.py
OPEN_RUN = "open_run"
NOTE_STEP = "note_step"
CLOSE_RUN = "close_run"
DECIDE_TRAINING = "decide_training"
PLAN_JOBS = "plan_jobs"
SUBMIT_JOBS = "submit_jobs"
CANCEL_JOBS = "cancel_jobs"
POLL_JOBS = "poll_jobs"
ACCEPT_MODELS = "accept_models"
COLLECT_SCORES = "collect_scores"
PUBLISH_WEEK = "publish_week"
WRITE_RESULTS = "write_results"
CALL_BACK = "call_back"
SET_TRAFFIC = "set_traffic"
PROBE_ROLLOUT = "probe_rollout"
CLOSE_ROLLOUT = "close_rollout"

RUN_WEEK = "run_week"
RUN_JOBS = "run_jobs"
AWAIT_RUN = "await_run"
ROLL_OUT = "roll_out"
