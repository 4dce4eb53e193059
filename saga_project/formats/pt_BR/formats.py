"""Order of events is what an operator reads: a minute, which is what Django shows, says nothing here."""

DATETIME_FORMAT = SHORT_DATETIME_FORMAT = "Y-m-d H:i:s.u"
