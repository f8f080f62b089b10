# The same with what Python brings: `python3 senders.py urllib ORDERS`.
import json
import sys
import urllib.error
import urllib.request

orders = json.loads(sys.argv[2])


def send(path, headers, body):
    request = urllib.request.Request(orders["url"] + path, data=body.encode(), headers=headers, method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            reply.read()
            return reply.status
    except urllib.error.HTTPError as refusal:
        refusal.read()
        return refusal.code
    except OSError as error:
        return repr(error)


answers = []
for one in orders["refused"]:
    body = '{"name":"' + "x" * one["size"] + '"}'
    good = orders["good"]
    answers.append([send(one["path"], one["headers"], body), send(good["path"], good["headers"], good["body"])])
print(json.dumps({"answers": answers, "uncaught": 0}))
