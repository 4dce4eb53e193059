from shipping import gateway
from tests import crashes


class Gateway(crashes.Crashes, gateway.HttpGateway):
    pass
