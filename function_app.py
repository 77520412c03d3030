"""The Function app: registers the blueprints, nothing else."""

import azure.functions as func

from conditioning.functions import blueprint as conditioning
from dashboard.functions import blueprint as dashboard
from orchestrators.functions import blueprint as orchestrations
from orchestrators.operations import blueprint as operations
from orchestrators.reading_routes import blueprint as reading
from orchestrators.rollout_routes import blueprint as rollouts

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for blueprint in (conditioning, orchestrations, operations, reading, rollouts, dashboard):
    app.register_functions(blueprint)
