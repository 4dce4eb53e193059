from payments import gateway
from tests.support import crashes


class Gateway(crashes.Crashes, gateway.HttpGateway):
    pass
