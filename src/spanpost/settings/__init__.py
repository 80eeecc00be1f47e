"""Settings: one model for each section, read from the environment and ``spanpost.toml`` and checked at the
start.

Later sources win: the defaults, ``DATABASE_URL``, ``spanpost.toml``, ``SPANPOST_<SECTION>__<FIELD>``,
arguments. Optional sections are off unless set. ``make reference`` writes the reference page from these
models.
"""

from spanpost.settings.api import ApiSettings as ApiSettings
from spanpost.settings.approvals import ApprovalsSettings as ApprovalsSettings
from spanpost.settings.approvals import ControlSettings as ControlSettings
from spanpost.settings.attach import AttachSettings as AttachSettings
from spanpost.settings.budgets import BudgetSettings as BudgetSettings
from spanpost.settings.cells import CellsSettings as CellsSettings
from spanpost.settings.context import ContextSettings as ContextSettings
from spanpost.settings.cost import CostSettings as CostSettings
from spanpost.settings.cost import PriceSettings as PriceSettings
from spanpost.settings.database import DatabaseSettings as DatabaseSettings
from spanpost.settings.database import default_data_dir as default_data_dir
from spanpost.settings.database_url import describe_database as describe_database
from spanpost.settings.forward import ForwardSettings as ForwardSettings
from spanpost.settings.gateway import GatewaySettings as GatewaySettings
from spanpost.settings.gateway import TokenSettings as TokenSettings
from spanpost.settings.intake import IntakeSettings as IntakeSettings
from spanpost.settings.interactions import InteractionsSettings as InteractionsSettings
from spanpost.settings.kafka import KafkaSettings as KafkaSettings
from spanpost.settings.launchers import LaunchersSettings as LaunchersSettings
from spanpost.settings.loading import foreign_database as foreign_database
from spanpost.settings.loading import is_sdk_disabled as is_sdk_disabled
from spanpost.settings.loading import load as load
from spanpost.settings.log import LogSettings as LogSettings
from spanpost.settings.loops import LoopSettings as LoopSettings
from spanpost.settings.metrics import MetricsSettings as MetricsSettings
from spanpost.settings.mistakes import REFERENCE as REFERENCE
from spanpost.settings.redaction import RedactionSettings as RedactionSettings
from spanpost.settings.root import LISTS as LISTS
from spanpost.settings.root import PREFIX as PREFIX
from spanpost.settings.root import TASK_VARIABLE as TASK_VARIABLE
from spanpost.settings.root import TOKEN_VARIABLE as TOKEN_VARIABLE
from spanpost.settings.root import URL_VARIABLE as URL_VARIABLE
from spanpost.settings.root import Models as Models
from spanpost.settings.root import Settings as Settings
from spanpost.settings.root import section_model as section_model
from spanpost.settings.root import variable as variable
from spanpost.settings.root import variable_names as variable_names
from spanpost.settings.routes import NotificationSettings as NotificationSettings
from spanpost.settings.routes import RouteSettings as RouteSettings
from spanpost.settings.section import Duration as Duration
from spanpost.settings.section import Section as Section
from spanpost.settings.slack_oauth import SlackOauthSettings as SlackOauthSettings
from spanpost.settings.sources import CONFIG_FILE as CONFIG_FILE
from spanpost.settings.sources import CONFIG_VARIABLE as CONFIG_VARIABLE
from spanpost.settings.sources import SECRETS_VARIABLE as SECRETS_VARIABLE
from spanpost.settings.sources import config_path as config_path
from spanpost.settings.sources import read_config_file as read_config_file
from spanpost.settings.stall import StallSettings as StallSettings
from spanpost.settings.tasks import TaskSettings as TaskSettings
from spanpost.settings.webhooks import HooksSettings as HooksSettings
