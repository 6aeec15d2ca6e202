import unittest

import app


class HelloTest(unittest.TestCase):
    def setUp(self):
        self.client = app.app.test_client()

    def test_says_hello(self):
        response = self.client.get("/")
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.get_data(as_text=True), "Hello, world!")

    def test_is_healthy(self):
        self.assertEqual(self.client.get("/healthz").status_code, 200)

    def test_counts_requests(self):
        app.metrics = app.Metrics()
        self.client.get("/")
        self.client.get("/nowhere")
        self.client.get("/healthz")
        text = app.metrics.text()
        self.assertIn('http_requests_total{method="GET",status="200"} 1\n', text)
        self.assertIn('http_requests_total{method="GET",status="404"} 1\n', text)
        self.assertIn("http_request_duration_seconds_count 2\n", text)


if __name__ == "__main__":
    unittest.main()
